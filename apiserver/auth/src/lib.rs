//! Who is it, may they: certificates, tokens, RBAC, the Node authorizer, PKI, the default policy, encryption at rest.
//!
//! Everything here decides from its arguments. What it may read of the cluster it reads through [`Objects`]; the clock
//! is an argument.

pub mod authn;
pub mod authorize;
mod cache;
pub mod node;
pub mod objects;
pub mod pki;
pub mod policy;
pub mod rbac;
pub mod review;
pub mod seal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod user;

pub use authn::Authenticator;
pub use authorize::{Attributes, Authorizer, Chain, Decision};
pub use node::NodeAuthorizer;
pub use objects::{Change, Objects};
pub use rbac::Rbac;
pub use seal::Transformer;
pub use user::UserInfo;

/// Compares secrets in a time that depends on their lengths alone.
pub(crate) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (x, y)| differences | (x ^ y)) == 0
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|n| char::from_digit(u32::from(n), 16)).collect()
}

/// A list of texts as Go's `%q` shows it.
pub(crate) fn quoted(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(" "))
}

/// Five random characters as upstream appends to generated names; without vowels and look-alikes.
pub fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let id = uuid::Uuid::new_v4();
    // The first six bytes of a version 4 UUID are random.
    id.as_bytes().iter().take(5).map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
}
