//! Taking a connection over from HTTP: WebSocket with a subprotocol, or SPDY/3.1.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::route::{Answer, body, text};

/// Header by which SPDY clients and servers agree on what runs over the streams.
const STREAM_PROTOCOL: &str = "X-Stream-Protocol-Version";
/// Messages of clients: kubectl sends 32 KiB at most, others whole files.
const MAX_MESSAGE: usize = 16 << 20;

pub(super) type Io = TokioIo<Upgraded>;

/// How a client wants to speak.
pub(super) enum Offer {
    WebSocket { protocol: String, accept: String },
    Spdy { protocol: String },
}

/// What the client offers that we know too; the error is the answer to one that offers nothing.
pub(super) fn offer(request: &Request<Incoming>, websocket: &[&str], spdy: &[&str]) -> Result<Offer, Box<Answer>> {
    let headers = request.headers();
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or("");
    if upgrade.eq_ignore_ascii_case("websocket") {
        let offered = listed(headers, SEC_WEBSOCKET_PROTOCOL.as_str());
        let Some(protocol) = websocket.iter().find(|p| offered.iter().any(|o| o == **p)) else {
            let message =
                format!("unable to negotiate protocol: client supports {offered:?}, server supports {websocket:?}");
            return Err(Box::new(text(StatusCode::FORBIDDEN, message)));
        };
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
            return Err(Box::new(text(StatusCode::BAD_REQUEST, "missing Sec-WebSocket-Key")));
        };
        return Ok(Offer::WebSocket { protocol: (*protocol).to_owned(), accept: derive_accept_key(key.as_bytes()) });
    }
    if upgrade.eq_ignore_ascii_case("spdy/3.1") {
        let offered = listed(headers, STREAM_PROTOCOL);
        let chosen = spdy.iter().find(|p| offered.iter().any(|o| o == **p));
        // Clients of the first version name none.
        let chosen = if offered.is_empty() { spdy.last() } else { chosen };
        let Some(protocol) = chosen else {
            let message = format!(
                "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {spdy:?}"
            );
            return Err(Box::new(text(StatusCode::FORBIDDEN, message)));
        };
        return Ok(Offer::Spdy { protocol: (*protocol).to_owned() });
    }
    Err(Box::new(text(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request")))
}

/// Every value of a header, split at commas.
fn listed(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
}

impl Offer {
    /// The answer that takes the offer, and the connection that will come of it.
    pub fn take(&self, request: &mut Request<Incoming>) -> (Answer, OnUpgrade) {
        let mut answer = Response::new(body(""));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        match self {
            Self::WebSocket { protocol, accept } => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_ACCEPT, value(accept));
                headers.insert(SEC_WEBSOCKET_PROTOCOL, value(protocol));
            }
            Self::Spdy { protocol } => {
                headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
                headers.insert(STREAM_PROTOCOL, value(protocol));
            }
        }
        (answer, hyper::upgrade::on(request))
    }
}

/// The connection as a WebSocket, server's side.
pub(super) async fn websocket(upgraded: Upgraded) -> WebSocketStream<Io> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}
