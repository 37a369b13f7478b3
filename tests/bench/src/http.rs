//! A lean HTTP/1.1 client over TLS: the loader shares two cores with what it loads, so it does no more than it must.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is read at once.
const CHUNK: usize = 64 * 1024;

/// How a server is reached: its address and the client's certificate.
#[derive(Clone)]
pub struct Access {
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Access {
    /// Reads the current context of a kubeconfig; its user must have a client certificate.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let config: Value = serde_saphyr::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
        let context = &named(&config, "contexts", &config["current-context"])?["context"];
        let cluster = &named(&config, "clusters", &context["cluster"])?["cluster"];
        let user = &named(&config, "users", &context["user"])?["user"];
        let server =
            cluster["server"].as_str().and_then(|url| url.strip_prefix("https://")).context("the server's URL")?;
        let (host, port) = server.trim_end_matches('/').rsplit_once(':').unwrap_or((server, "443"));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&decode(cluster, "certificate-authority-data")?) {
            roots.add(certificate.context("certificate authority")?).context("certificate authority")?;
        }
        let chain = decode(user, "client-certificate-data")?;
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().context("client certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&decode(user, "client-key-data")?).context("client key")?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .context("client certificate")?;
        let port = port.parse().context("the server's port")?;
        Ok(Self { host: host.to_owned(), port, tls: TlsConnector::from(Arc::new(config)) })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.context("connect")?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        let name = ServerName::try_from(self.host.clone()).context("the server's name")?;
        let stream = self.tls.connect(name, stream).await.context("TLS handshake")?;
        Ok(Connection {
            stream,
            host: self.host.clone(),
            input: Vec::with_capacity(CHUNK),
            output: Vec::new(),
            seen: false,
        })
    }
}

fn named<'a>(config: &'a Value, list: &str, name: &Value) -> Result<&'a Value> {
    let found = config[list].as_array().and_then(|entries| entries.iter().find(|entry| entry["name"] == *name));
    found.with_context(|| format!("the kubeconfig has no {name} among its {list}"))
}

/// What stands in a field `X-data`, or in the file that `X` names.
fn decode(holder: &Value, field: &str) -> Result<Vec<u8>> {
    if let Some(text) = holder[field].as_str() {
        let engine = base64::engine::general_purpose::STANDARD;
        return engine.decode(text).with_context(|| format!("{field} of the kubeconfig"));
    }
    let file = holder[field.trim_end_matches("-data")].as_str();
    let file = file.with_context(|| format!("the kubeconfig has no {field}"))?;
    std::fs::read(file).with_context(|| format!("read {file}"))
}

/// One kept-alive connection, one request at a time.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    host: String,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Whether `more` has handed out what is in `input`.
    seen: bool,
}

/// How long a body is.
enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    /// Sends a request and reads the whole answer: its code and the number of bytes of its body; `body` gets the bytes
    /// when given.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        content: &[u8],
        body: Option<&mut Vec<u8>>,
    ) -> Result<(u16, usize)> {
        self.send(method, path, content).await?;
        let (code, length) = self.head().await?;
        let size = match length {
            Length::Known(size) => self.known(size, body).await?,
            Length::Chunked => self.chunks(body).await?,
        };
        Ok((code, size))
    }

    /// Sends a request that must succeed; returns the answer's body parsed.
    pub async fn json(&mut self, method: &str, path: &str, content: &[u8]) -> Result<Value> {
        let mut body = Vec::new();
        let (code, _) = self.request(method, path, content, Some(&mut body)).await?;
        ensure!(code < 300, "{method} {path} answered {code}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("{method} {path} gave no JSON"))
    }

    /// Begins a watch; its bytes come from `more`.
    pub async fn watch(&mut self, path: &str) -> Result<()> {
        self.send("GET", path, b"").await?;
        let (code, _) = self.head().await?;
        ensure!(code == 200, "GET {path} answered {code}");
        Ok(())
    }

    /// The next bytes of a watch, chunk marks included.
    pub async fn more(&mut self) -> Result<&[u8]> {
        if self.seen {
            self.input.clear();
        }
        if self.input.is_empty() {
            self.fill().await?;
        }
        self.seen = true;
        Ok(&self.input)
    }

    async fn send(&mut self, method: &str, path: &str, content: &[u8]) -> Result<()> {
        self.output.clear();
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.host,
            content.len()
        );
        self.output.extend_from_slice(head.as_bytes());
        self.output.extend_from_slice(content);
        self.stream.write_all(&self.output).await.context("send a request")?;
        self.stream.flush().await.context("send a request")
    }

    /// Reads an answer's head and takes it off the input.
    async fn head(&mut self) -> Result<(u16, Length)> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.input, b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let head = std::str::from_utf8(&self.input[..end]).context("an answer's head")?;
        let code = head.get(9..12).and_then(|code| code.parse().ok()).context("an answer's code")?;
        let mut length = Length::Known(0);
        for line in head.lines().skip(1) {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                length = Length::Known(value.trim().parse().context("content-length")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = Length::Chunked;
            }
        }
        self.input.drain(..end);
        Ok((code, length))
    }

    async fn known(&mut self, size: usize, body: Option<&mut Vec<u8>>) -> Result<usize> {
        let mut left = size;
        let mut body = body;
        loop {
            let taken = left.min(self.input.len());
            if let Some(body) = body.as_deref_mut() {
                body.extend_from_slice(&self.input[..taken]);
            }
            self.input.drain(..taken);
            left -= taken;
            if left == 0 {
                return Ok(size);
            }
            self.fill().await?;
        }
    }

    async fn chunks(&mut self, mut body: Option<&mut Vec<u8>>) -> Result<usize> {
        let mut total = 0;
        loop {
            let end = loop {
                if let Some(end) = memchr::memmem::find(&self.input, b"\r\n") {
                    break end;
                }
                self.fill().await?;
            };
            let text = std::str::from_utf8(&self.input[..end]).context("a chunk's size")?;
            let size = usize::from_str_radix(text.trim(), 16).context("a chunk's size")?;
            self.input.drain(..end + 2);
            self.known(size, body.as_deref_mut()).await?;
            self.known(2, None).await?;
            total += size;
            if size == 0 {
                return Ok(total);
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.input.reserve(CHUNK);
        let count = self.stream.read_buf(&mut self.input).await.context("read an answer")?;
        ensure!(count > 0, "the server closed the connection");
        Ok(())
    }
}
