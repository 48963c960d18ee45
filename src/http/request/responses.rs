//! Documents the error responses of a call.

use std::collections::BTreeMap;

use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::problem::Code;

/// Names the codes that a call can answer with, for the document.
macro_rules! problems {
    ($name:ident: $($code:ident)*) => {
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                use $crate::http::request::problem::Code;
                $crate::http::request::responses::responses(&[$(Code::$code),*])
            }
        }
    };
}
pub(in crate::http) use problems;

/// One response per status, with the codes that it can carry. Any call can also hit the rate limit of its
/// address, or fail with an internal error. Any call that takes a token can also fail because the token's key
/// cannot be fetched, or because it was revoked.
pub fn responses(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut statuses = BTreeMap::<String, Vec<String>>::new();
    let tokens: &[Code] =
        if codes.contains(&Code::InvalidToken) { &[Code::TokenRevoked, Code::KeysUnavailable] } else { &[] };
    for code in codes.iter().chain([&Code::TooManyRequests, &Code::Internal]).chain(tokens) {
        let line = format!("`{}`: {}", code.as_str(), code.title());
        statuses.entry(code.status().as_str().to_owned()).or_default().push(line);
    }
    let content = || Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let response = |lines: Vec<String>| {
        ResponseBuilder::new()
            .description(lines.join(" "))
            .content("application/problem+json", content())
            .build()
    };
    statuses.into_iter().map(|(status, lines)| (status, response(lines).into())).collect()
}
