//! What reads a stranger's words before anything else does, for the fuzz targets.

use crate::http::params::Params;
use crate::http::route;
use crate::pipeline::list;

/// A request's query, with what is read of single parameters.
pub fn query(text: &str) {
    if let Ok(params) = Params::parse(text) {
        drop(list::decode_token(&params.continues));
        drop(list::parse_revision(&params.resource_version));
    }
}

/// A request's path.
pub fn path(text: &str) {
    if let route::Route::Resource(target) = route::route(text) {
        drop((route::unescape(target.name), route::unescape(target.namespace)));
        drop(route::verb(&http::Method::GET, &target, true));
    }
}
