//! HTTP as the pipeline sees it: bodies, paths, query parameters, content negotiation, responses.

pub mod body;
pub mod compress;
pub mod negotiate;
pub mod params;
pub mod response;
pub mod route;

pub use body::{Body, BoxError};
pub use response::Response;

/// A request's header that names what its answers may leave out; `managedFields` is all there is. Ours: others ignore
/// it.
pub const OMIT: http::HeaderName = http::HeaderName::from_static("cox-omit");
