//! The address of a server, checked.
//!
//! Contract: an address is a scheme, a host and a path alone. A key goes to another machine over https alone.

use std::net::IpAddr;

use crate::RemoteError;

/// The base address of a server's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Without a slash at its end; `/v1` where no path was given.
    pub base: String,
    /// The server is on this machine.
    pub is_own: bool,
}

impl Address {
    /// Reads an address to which a key is sent or not.
    pub fn read(url: &str, with_key: bool) -> Result<Self, RemoteError> {
        let wrong = |rule: &str| RemoteError::Setting {
            setting: "the server's address",
            value: url.to_owned(),
            rule: rule.to_owned(),
        };
        let rest = ["http://", "https://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| wrong("it must begin with http:// or https://"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let hostile = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\' | '@');
        if host.is_empty() || url.contains(hostile) {
            return Err(wrong("it must be a host and a path alone, such as http://127.0.0.1:8080/v1"));
        }
        let (scheme, is_own) = (&url[..url.len() - rest.len()], is_own(host));
        if with_key && scheme == "http://" && !is_own {
            let rule = "a key is sent to another machine over https:// alone; unset the key, or use https";
            return Err(wrong(rule));
        }
        let path = if path.is_empty() { "v1" } else { path };
        Ok(Self { base: format!("{scheme}{host}/{path}"), is_own })
    }
}

/// Whether a host, with or without a port, is this machine: `localhost`, or an address that loops back. `127.example.com` is
/// another machine.
fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_path() {
        let base =
            |url: &str| Address::read(url, false).map(|address| address.base).map_err(|e| e.to_string());
        assert_eq!(base("http://host:80").unwrap(), "http://host:80/v1");
        assert_eq!(base("https://host/api/v3//").unwrap(), "https://host/api/v3");
        for bad in [
            "127.0.0.1:80",
            "ftp://host",
            "http://",
            "http:///v1",
            "http://key@host",
            "http://host/v1?x=1",
            "http://a b",
            "http://host\\@other/",
            "",
        ] {
            assert!(base(bad).unwrap_err().contains(&format!("`{bad}`")), "{bad}");
        }
    }

    #[test]
    fn a_key_goes_in_the_clear_to_this_machine_alone() {
        for own in ["127.0.0.1", "127.0.0.1:80", "localhost:1", "LOCALHOST", "[::1]:80", "127.8.8.8"] {
            assert!(Address::read(&format!("http://{own}/v1"), true).unwrap().is_own, "{own}");
        }
        for other in [
            "127.example.com",
            "localhost.example.com",
            "127.0.0.1.example.com:80",
            "10.0.0.1",
            "[::2]",
            "host",
        ] {
            let error = Address::read(&format!("http://{other}"), true).unwrap_err().to_string();
            assert!(error.contains("https"), "{other}: {error}");
            assert!(!Address::read(&format!("https://{other}"), true).unwrap().is_own, "{other}");
        }
    }
}
