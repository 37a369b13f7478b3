//! What etcd answers over plain HTTP on its client port: /health, /readyz, /livez, /version and /metrics.

use http::{Method, Response, StatusCode, header};
use tonic::body::Body;

use super::Server;
use crate::SPOKEN_VERSION;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Server {
    pub(super) async fn http(&self, method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n".to_owned());
        }
        match path {
            "/health" => self.health(),
            "/readyz" | "/livez" => match self.ailment() {
                None => answer(StatusCode::OK, TEXT, "ok\n".to_owned()),
                Some(why) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            },
            "/version" => {
                let cluster = SPOKEN_VERSION.rsplit_once('.').map_or(SPOKEN_VERSION, |(minor, _)| minor);
                let text = format!(r#"{{"etcdserver":"{SPOKEN_VERSION}","etcdcluster":"{cluster}.0"}}"#);
                answer(StatusCode::OK, JSON, text)
            }
            "/metrics" => match self.metrics().await {
                Ok(text) => answer(StatusCode::OK, METRICS, text),
                Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            },
            _ => answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned()),
        }
    }

    fn health(&self) -> Response<Body> {
        let ailment = self.ailment();
        let code = if ailment.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let reason = ailment.as_deref().unwrap_or_default().replace(['"', '\\'], "'");
        answer(code, JSON, format!(r#"{{"health":"{}","reason":"{reason}"}}"#, ailment.is_none()))
    }

    /// etcd's names for what our store has too.
    async fn metrics(&self) -> Result<String, store::Error> {
        let status = self.store.status();
        let disk = self.store.disk_bytes().await?;
        let gauges = [
            ("etcd_server_has_leader", i64::from(self.ailment().is_none())),
            ("etcd_server_is_leader", 1),
            ("etcd_server_proposals_applied_total", status.applied_index as i64),
            ("etcd_mvcc_db_total_size_in_bytes", disk as i64),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", status.bytes),
            ("etcd_debugging_mvcc_keys_total", status.keys as i64),
            ("etcd_debugging_mvcc_current_revision", status.revision),
            ("etcd_debugging_mvcc_compact_revision", status.compact_revision),
        ];
        let mut text = String::new();
        for (name, value) in gauges {
            text.push_str(&format!("# TYPE {name} gauge\n{name} {value}\n"));
        }
        text.push_str(&format!(
            "# TYPE etcd_server_version gauge\netcd_server_version{{server_version=\"{SPOKEN_VERSION}\"}} 1\n"
        ));
        Ok(text)
    }
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
