//! Which server an address belongs to, and whether a token may go there.
//!
//! Contract: a token goes to the endpoint's own scheme, host and port, and over the network by https alone. Everything else
//! that an address leads to, such as the servers that files lie on, never sees it.

use std::net::IpAddr;

use ureq::http::Uri;

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Origin {
    /// Of an absolute address; none if it is no address of a web server, or names a user.
    pub fn of(address: &str) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let authority = uri.authority()?;
        let (scheme, port) = match uri.scheme_str()? {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return None,
        };
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() || authority.as_str().contains('@') {
            return None;
        }
        Some(Self { scheme, host, port: authority.port_u16().unwrap_or(port) })
    }

    /// Whether it is this machine.
    pub fn is_own(&self) -> bool {
        let name = self.host.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether what is sent there cannot be read on the way.
    pub fn is_private(&self) -> bool {
        self.scheme == Scheme::Https || self.is_own()
    }
}

/// The address that a `Location` of a reply from `from` means.
pub(crate) fn redirected(from: &str, location: &str) -> Option<String> {
    if Origin::of(location).is_some() {
        return Some(location.to_owned());
    }
    // A path on the same server; `//host/path` would be another.
    if !location.starts_with('/') || location.starts_with("//") {
        return None;
    }
    let rest = from.find("://")? + 3;
    let host = from[rest..].find('/').map_or(from.len(), |slash| rest + slash);
    Some(format!("{}{location}", &from[..host]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| Origin::of(a) == Origin::of(b);
        assert!(same("https://Hub.co/a", "https://hub.co:443/b?c"));
        assert!(!same("https://hub.co", "http://hub.co"));
        assert!(!same("https://hub.co", "https://hub.co.evil.com"));
        assert!(!same("http://127.0.0.1:1", "http://127.0.0.1:2"));
        for none in ["/a", "hub.co", "ftp://hub.co", "https://hub.co@evil.com", "https://"] {
            assert_eq!(Origin::of(none), None, "{none}");
        }
        let is_private = |address: &str| Origin::of(address).unwrap().is_private();
        assert!(
            is_private("https://hub.co") && is_private("http://127.0.0.1:8") && is_private("http://[::1]:8")
        );
        assert!(!is_private("http://hub.co") && !is_private("http://127.0.0.1.evil.com"));
    }

    #[test]
    fn a_location_is_an_address_or_a_path() {
        let from = "https://hub.co:1/org/name";
        assert_eq!(redirected(from, "/api/x?y").as_deref(), Some("https://hub.co:1/api/x?y"));
        assert_eq!(redirected(from, "https://cdn.co/x").as_deref(), Some("https://cdn.co/x"));
        for wrong in ["//evil.com/x", "x", "", "javascript:x", "https://a@evil.com/"] {
            assert_eq!(redirected(from, wrong), None, "{wrong}");
        }
    }
}
