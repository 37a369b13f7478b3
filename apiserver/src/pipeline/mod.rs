//! One pipeline for every verb: authenticate, authorize, decode, default, admit, validate, commit, encode.
//!
//! The verbs of the main resource and of subresources that are the same object live here; the others in
//! `crate::subresources`. Dry run differs at commit only.

pub mod apply;
pub mod collection;
pub mod commit;
pub mod create;
pub mod decode;
pub mod delete;
pub mod entry;
pub mod get;
pub mod list;
pub mod managed;
pub mod messages;
pub mod options;
pub mod patch;

pub mod prepare;
pub mod render;
pub mod table;
pub mod update;
pub mod watch;

use std::sync::Arc;

use api::{Object, Status};
use apiserver_auth::UserInfo;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use crate::cache::{Cached, View};
use crate::http::negotiate::Accept;
use crate::http::params::Params;
use crate::http::{Response, response};
use crate::rows::Row;
use crate::server::Shared;

/// One authorized request for a resource on its way through the pipeline.
pub struct Call<'a> {
    pub server: &'a Arc<Shared>,
    pub row: &'a Arc<Row>,
    /// API verb.
    pub verb: &'static str,
    /// Empty for cluster-scoped resources and across namespaces.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: &'a str,
    /// Empty for the main resource.
    pub subresource: &'a str,
    pub user: &'a Arc<UserInfo>,
    pub params: Params<'a>,
    pub accept: Accept,
    pub headers: &'a HeaderMap,
    /// Whether large answers may be compressed.
    pub gzip: bool,
    /// Texts for the answer's `Warning` headers.
    pub warnings: Mutex<Vec<String>>,
}

impl Call<'_> {
    /// What the request's namespace and selectors let it see.
    pub fn view(&self) -> Result<View, Status> {
        let params = &self.params;
        let mut view = View::new(self.row, self.namespace, &params.label_selector, &params.field_selector)?;
        if !self.name.is_empty() {
            view.only(self.name);
        }
        Ok(view)
    }

    /// Whether objects are answered without managedFields, which a reader that does not look at them can ask for: they
    /// are half of many objects.
    pub fn is_lean(&self) -> bool {
        self.headers.get(&crate::http::OMIT).is_some_and(|value| value == "managedFields")
    }

    pub fn warn(&self, texts: impl IntoIterator<Item = String>) {
        self.warnings.lock().extend(texts);
    }

    pub fn not_found(&self) -> Status {
        Status::not_found(&self.row.gvr.group, &self.row.gvr.resource, self.name)
    }

    /// Who is noted in managedFields: the parameter, or else the user agent up to its first slash.
    pub fn field_manager(&self) -> String {
        if !self.params.field_manager.is_empty() {
            return self.params.field_manager.to_string();
        }
        let agent = self.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let name = agent.split('/').next().unwrap_or("");
        let short: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
        if short.is_empty() { "unknown".to_owned() } else { short }
    }

    /// One object as the answer, in the form that the client asked for.
    pub fn answer(&self, code: StatusCode, object: &Cached) -> Response {
        render::Renderer::new(self).one(self, code, object)
    }

    /// An object that is of no row's kind (Scale, TokenRequest, reviews) as the answer.
    pub fn answer_object(&self, code: StatusCode, object: &Object) -> Response {
        let bytes = serde_json::to_vec(object).unwrap_or_else(|_| unreachable!("JSON values serialize"));
        response::json(code, self.accept, bytes.into())
    }
}
