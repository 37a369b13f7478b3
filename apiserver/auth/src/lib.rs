//! Who is it, may they: certificates, tokens, RBAC, the Node authorizer, PKI, the default policy, encryption at rest.
//!
//! Everything here decides from its arguments. What it may read of the cluster it reads through [`Objects`]; the clock
//! is an argument.

pub mod authorize;
pub mod objects;
pub mod user;

pub use authorize::{Attributes, Authorizer, Chain, Decision};
pub use objects::{Change, Objects};
pub use user::UserInfo;
