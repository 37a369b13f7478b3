//! The OpenID Connect documents by which others verify service-account tokens.

use serde_json::{Value, json};

use super::keys::Keys;

/// Where the API server serves [`configuration`].
pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
/// Where the API server serves [`key_set`], as `application/jwk-set+json`.
pub const KEY_SET_PATH: &str = "/openid/v1/jwks";
pub const KEY_SET_MEDIA_TYPE: &str = "application/jwk-set+json";
/// Both documents' `Cache-Control`.
pub const CACHE_CONTROL: &str = "public, max-age=3600";

/// The discovery document; `address` is the API server's host and port as clients reach it.
pub fn configuration(issuer: &str, address: &str, keys: &Keys) -> Value {
    let mut algorithms: Vec<&str> = keys.public().iter().map(|k| k.algorithm.name()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    json!({
        "issuer": issuer,
        "jwks_uri": format!("https://{address}{KEY_SET_PATH}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

/// The JSON Web Key Set (RFC 7517).
pub fn key_set(keys: &Keys) -> Value {
    json!({"keys": keys.public().iter().map(|k| k.jwk().clone()).collect::<Vec<_>>()})
}
