//! Tokens: who may have what, and who sees the token.

use super::*;

/// A Hub that lets in whoever has this token.
fn private(code: &'static str) -> Server {
    Server::start(move |request, _| match request.header("authorization") {
        Some("Bearer hf_the_secret") => Repository::model().answer(request),
        Some(other) => Reply::new(401, format!("{{\"error\":\"{other} is wrong\"}}")),
        None => Reply::new(401, "{\"error\":\"Access is restricted\"}").with("X-Error-Code", code),
    })
}

#[test]
fn without_a_token_a_private_repository_is_refused_with_what_to_do() {
    let server = private("RepoNotFound");
    let place = Place::at(&server.url);
    check_holds(
        &place.error("org/name"),
        &["org/name", "HTTP 401", "Access is restricted", "is the name right?", "HF_TOKEN", "hf auth login"],
    );
    assert_eq!(server.requests().len(), 1, "a refusal is not asked for again");
    check_holds(
        &Place::at(&private("GatedRepo").url).error("org/name"),
        &["accept its conditions", "/org/name, then"],
    );
    place.with_token().model("org/name").unwrap();
}

#[test]
fn a_token_that_is_refused_is_not_repeated() {
    let server = Server::start(|request, _| {
        let said = request.header("authorization").unwrap_or_default();
        Reply::new(401, format!("{{\"error\":\"{said} is wrong\"}}"))
    });
    let place = Place::at(&server.url).with_token();
    check_holds(&place.error("org/name"), &["HTTP 401", "(the token) is wrong", "still valid?"]);
    for (status, code, parts) in [
        (403, "GatedRepo", &["HTTP 403", "accept its conditions", "with the account"]),
        (403, "", &["HTTP 403", "lacks the right", "fine-grained"]),
        (404, "RepoNotFound", &["no such repository", "may the token's account see it?", "hint: "]),
    ] {
        let server = Server::start(move |_, _| Reply::new(status, "").with("X-Error-Code", code));
        check_holds(&Place::at(&server.url).with_token().error("org/name"), parts);
    }
    let server = Server::start(|_, _| Reply::new(404, "<html>"));
    check_holds(
        &Place::at(&server.url).error("org/name"),
        &["no such repository at http://127", "If it is private"],
    );
}

#[test]
fn the_token_goes_to_the_hub_and_not_where_it_sends() {
    let elsewhere = Server::start(|request, _| Repository::model().answer(request));
    let target = elsewhere.url.clone();
    let hub = Server::start(move |request, _| {
        let path = &request.path;
        match path {
            // The repository has another name now: a redirect on the same server.
            _ if path.starts_with("/api/models/org/name/") => {
                Reply::new(307, "").with("Location", path.replace("org/name", "org/new"))
            }
            _ if path.starts_with("/api/") => Repository::model().listing(),
            _ => Reply::new(302, "").with("Location", format!("{target}{path}")),
        }
    });
    Place::at(&hub.url).with_token().model("org/name").unwrap();
    let token = |request: &Request| request.header("authorization").map(str::to_owned);
    assert!(hub.requests().iter().all(|request| token(request).as_deref() == Some("Bearer hf_the_secret")));
    assert_eq!(hub.requests().len(), 5);
    let seen: Vec<_> = elsewhere.requests().iter().map(token).collect();
    assert_eq!(seen, [None, None, None]);
}

#[test]
fn redirects_that_lead_nowhere_end() {
    for (location, part) in
        [("/api/again", "in circles"), ("//evil.com/x", "is none"), ("ftp://x", "is none")]
    {
        let server = Server::start(move |_, _| Reply::new(302, "").with("Location", location));
        check_holds(&Place::at(&server.url).with_token().error("org/name"), &[part]);
        assert!(server.requests().len() <= 8);
    }
}
