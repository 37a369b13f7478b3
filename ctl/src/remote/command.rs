//! The streams of a command or container (`v5.channel.k8s.io`, KEP-4006): each message begins with its channel's
//! number.

use std::io::Write;

use anyhow::{Context as _, anyhow, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::error::{ApiError, Result};
use crate::session::Session;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the message's one byte is the channel that is closed.
const CLOSE: u8 = 255;

/// Pieces of input that wait to be sent.
pub(crate) const QUEUE: usize = 16;

/// What goes to the command.
pub(crate) enum Input {
    Data(Bytes),
    /// Columns and rows of the terminal.
    Size(u16, u16),
}

/// The command ended with an exit code that is not 0.
#[derive(Debug, thiserror::Error)]
#[error("command terminated with exit code {0}")]
pub(crate) struct Ended(pub u8);

/// Runs the streams until the command is over. `input` is closed when there is no more to say.
///
/// # Errors
/// The command failed ([`Ended`] with its code), or could not be run.
pub(crate) async fn run(
    session: &Session,
    uri: &str,
    mut input: Option<mpsc::Receiver<Input>>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<()> {
    let request = Request::get(uri).body(Vec::new()).with_context(|| format!("request to {uri}"))?;
    let connection = session.client.connect(request).await.map_err(refused)?;
    let closes = connection.supports_stream_close();
    let (mut sink, mut stream) = connection.into_stream().split();
    let mut status = None;
    loop {
        let more = async {
            match &mut input {
                Some(input) => input.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = stream.next() => match message {
                None => break,
                Some(Ok(Message::Binary(data))) => match data.split_first() {
                    Some((&STDOUT, data)) => {
                        out.write_all(data)?;
                        out.flush()?;
                    }
                    Some((&STDERR, data)) => {
                        err.write_all(data)?;
                        err.flush()?;
                    }
                    Some((&ERROR, data)) => {
                        let told = serde_json::from_slice::<Value>(data);
                        status = Some(told.context("the status of the command is no JSON")?);
                    }
                    _ => {}
                },
                Some(Ok(Message::Close(_))) => break,
                Some(Ok(_)) => {}
                // The status was the last that mattered.
                Some(Err(_)) if status.is_some() => break,
                Some(Err(error)) => return Err(anyhow!(error).context("read from the command")),
            },
            piece = more => {
                let is_over = piece.is_none();
                let message = input_message(piece, closes);
                if is_over {
                    input = None;
                }
                // That the command reads no more shows in what it says next.
                if let Some(message) = message
                    && sink.send(Message::Binary(message)).await.is_err()
                {
                    input = None;
                }
            }
        }
    }
    ended(status)
}

/// The message for a piece of input; its end can be said only where channels can be closed.
fn input_message(piece: Option<Input>, closes: bool) -> Option<Bytes> {
    match piece {
        Some(Input::Data(data)) => Some(framed(STDIN, &data)),
        Some(Input::Size(width, height)) => {
            let size = json!({"Width": width, "Height": height});
            Some(framed(RESIZE, size.to_string().as_bytes()))
        }
        None => closes.then(|| framed(CLOSE, &[STDIN])),
    }
}

fn framed(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.extend_from_slice(data);
    message.freeze()
}

/// The server's refusal to connect.
pub(crate) fn refused(error: kube::Error) -> anyhow::Error {
    match error {
        // A kubelet's refusal is plain text.
        kube::Error::Api(status) if status.reason == "Failed to parse error data" => {
            anyhow!("unable to upgrade connection: {}", status.message)
        }
        kube::Error::Api(status) => match serde_json::to_vec(&status) {
            Ok(mut bytes) => {
                if let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) {
                    value["kind"] = "Status".into();
                    bytes = value.to_string().into_bytes();
                }
                ApiError::of(status.code, &bytes).into()
            }
            Err(error) => error.into(),
        },
        other => anyhow!(other).context("connect to the pod"),
    }
}

/// What the status of a command means for the verb.
fn ended(status: Option<Value>) -> Result<()> {
    let Some(status) = status else { return Ok(()) };
    let text = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("status") == "Success" {
        return Ok(());
    }
    if text("reason") == "NonZeroExitCode" {
        let causes = status.pointer("/details/causes").and_then(Value::as_array);
        let cause = causes.into_iter().flatten().find(|cause| cause["reason"] == "ExitCode");
        let code = cause.and_then(|c| c["message"].as_str()).and_then(|code| code.parse::<u8>().ok());
        if let Some(code) = code {
            return Err(Ended(code).into());
        }
    }
    bail!("{}", text("message"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_command() {
        let failed = json!({
            "status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "42"}]},
        });
        let code = |status| ended(Some(status)).map_err(|error| error.downcast_ref::<Ended>().map(|ended| ended.0));
        assert_eq!(code(failed), Err(Some(42)));
        assert_eq!(code(json!({"status": "Success"})), Ok(()));
        assert_eq!(code(json!({"status": "Failure", "message": "no such container"})), Err(None));
    }
}
