//! `cox token`: bootstrap tokens (Secrets of type `bootstrap.kubernetes.io/token`) that nodes join with.
//!
//! What is printed is `ID.SECRET.PIN`: a kubeadm token, and the SHA-256 of the CA's public key, so that the joining
//! machine knows the server before it says its secret.

use anyhow::{Context, Result, bail};
use apiserver_auth::pki::Authority;
use client::Api;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};

use crate::block;
use crate::cli::TokenAction;
use crate::layout::Layout;
use crate::netns;
use crate::progress::print;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "bootstrap-token-";
/// The group that may ask for a node's certificate (kubeadm's).
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

pub fn run(action: TokenAction) -> Result<()> {
    let (TokenAction::Create { dir, .. } | TokenAction::List(dir) | TokenAction::Delete { dir, .. }) = &action;
    netns::enter(&Layout::at(&dir.data_dir)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let done = async {
        match action {
            TokenAction::Create { dir, ttl_hours } => {
                let layout = Layout::at(&dir.data_dir)?;
                print(&create(&layout, ttl_hours).await?)?;
                Ok(())
            }
            TokenAction::List(dir) => list(&Layout::at(&dir.data_dir)?).await,
            TokenAction::Delete { id, dir } => delete(&Layout::at(&dir.data_dir)?, &id).await,
        }
    };
    block::on(&runtime, Box::pin(done))
}

async fn secrets(layout: &Layout) -> Result<Api<Secret>> {
    let client: Client = client::from_kubeconfig(&layout.kubeconfig()).await?;
    Ok(Api::namespaced(client, NAMESPACE))
}

/// `sha256:…` of the CA's public key.
fn pin(layout: &Layout) -> Result<String> {
    let read = |file: &str| {
        let path = layout.pki().join(file);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    Ok(Authority::from_pem(&read("ca.crt")?, &read("ca.key")?)?.public_key_hash())
}

fn random_letters(count: usize) -> Result<String> {
    use std::io::Read as _;
    let mut source = std::fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    let mut text = String::with_capacity(count);
    let mut byte = [0u8];
    while text.len() < count {
        source.read_exact(&mut byte).context("read /dev/urandom")?;
        // 252 is the largest multiple of 36 in a byte: beyond it some letters would be likelier.
        if byte[0] < 252 {
            text.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    Ok(text)
}

async fn create(layout: &Layout, ttl_hours: u32) -> Result<String> {
    let (id, secret) = (random_letters(6)?, random_letters(16)?);
    let mut data = vec![
        ("token-id", id.clone()),
        ("token-secret", secret.clone()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("usage-bootstrap-signing", "true".to_owned()),
        ("auth-extra-groups", GROUP.to_owned()),
        ("description", "Made by `cox token create`".to_owned()),
    ];
    if ttl_hours > 0 {
        let end = Timestamp::now() + SignedDuration::from_hours(ttl_hours.into());
        data.push(("expiration", end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    }
    let object = Secret {
        metadata: ObjectMeta { name: Some(format!("{PREFIX}{id}")), ..ObjectMeta::default() },
        type_: Some(TYPE.to_owned()),
        data: Some(data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect()),
        ..Secret::default()
    };
    secrets(layout).await?.create(&PostParams::default(), &object).await.context("store the token")?;
    let pin = pin(layout)?;
    Ok(format!("{id}.{secret}.{}", pin.trim_start_matches("sha256:")))
}

async fn list(layout: &Layout) -> Result<()> {
    let only = ListParams::default().fields(&format!("type={TYPE}"));
    print(&format!("{:<8} {:<22} DESCRIPTION", "ID", "EXPIRES"))?;
    for secret in secrets(layout).await?.list(&only).await.context("list the tokens")? {
        let text = |key: &str| {
            let value = secret.data.as_ref().and_then(|data| data.get(key));
            value.map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default()
        };
        let expires = Some(text("expiration")).filter(|t| !t.is_empty()).unwrap_or_else(|| "never".to_owned());
        print(&format!("{:<8} {expires:<22} {}", text("token-id"), text("description")))?;
    }
    Ok(())
}

async fn delete(layout: &Layout, id: &str) -> Result<()> {
    let id = id.split('.').next().unwrap_or(id);
    match secrets(layout).await?.delete(&format!("{PREFIX}{id}"), &DeleteParams::default()).await {
        Ok(_) => {
            print(&format!("token {id} deleted"))?;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => bail!("there is no token {id}"),
        Err(error) => Err(error).context("delete the token"),
    }
}

/// A token as the joining machine reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// `ID.SECRET`, the bearer token.
    pub bearer: String,
    /// Hex of the SHA-256 of the CA's public key.
    pub pin: String,
}

impl JoinToken {
    pub fn parse(text: &str) -> Result<Self> {
        let good = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| LETTERS.contains(&b));
        let parts: Vec<&str> = text.trim().split('.').collect();
        match parts.as_slice() {
            [id, secret, pin]
                if good(id, 6)
                    && good(secret, 16)
                    && pin.len() == 64
                    && pin.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                Ok(Self { bearer: format!("{id}.{secret}"), pin: pin.to_ascii_lowercase() })
            }
            _ => bail!("this is no token: `cox token create` on the server prints one, as ID.SECRET.PIN"),
        }
    }

    /// Whether a CA's PEM is the one that the token pins.
    pub fn trusts(&self, ca_der: &[u8]) -> bool {
        let certificate = rustls::pki_types::CertificateDer::from(ca_der);
        apiserver_auth::pki::public_key_hash(&certificate)
            .is_ok_and(|hash| hash.trim_start_matches("sha256:").eq_ignore_ascii_case(&self.pin))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_are_read_as_printed_and_nothing_else() {
        let pin = "ab".repeat(32);
        let token = JoinToken::parse(&format!("abcdef.0123456789abcdef.{pin}\n")).unwrap();
        assert_eq!(token, JoinToken { bearer: "abcdef.0123456789abcdef".to_owned(), pin: pin.clone() });
        for bad in
            ["", "abcdef.0123456789abcdef", "ABCDEF.0123456789abcdef.x", &format!("abcde.0123456789abcdef.{pin}")]
        {
            assert!(JoinToken::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn letters_are_of_the_alphabet() {
        let text = random_letters(500).unwrap();
        assert!(text.bytes().all(|b| LETTERS.contains(&b)));
        assert_ne!(text, random_letters(500).unwrap());
    }
}
