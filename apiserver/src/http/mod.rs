//! HTTP as the pipeline sees it: bodies, paths, query parameters, content negotiation, responses.

pub mod body;
pub mod compress;
pub mod negotiate;
pub mod params;
pub mod response;
pub mod route;

pub use body::{Body, BoxError};
pub use response::Response;
