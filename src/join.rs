//! Joining a server: the token pins the server's CA; the node's certificates come by CertificateSigningRequests that
//! the server approves (TLS bootstrap, as kubeadm's and k3s's).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver_auth::pki::{self, Credentials, Pair, Profile, Standing, csr, files, kubeconfig};
use client::Api;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::Client;
use kube::api::{ObjectMeta, PostParams};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use crate::cluster::Machine;
use crate::commands::token::JoinToken;
use crate::layout::{Layout, write_private};

/// How long the server may take to approve and sign.
const SIGNING_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the server may take to show its certificates.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// Name of the files of the kubelet's certificate as server.
const SERVING: &str = "kubelet-server";

/// The server's CA as PEM: the certificate of its chain whose public key is the one that the token pins. Every later
/// connection is verified against it.
pub async fn server_ca(server: &str, token: &JoinToken) -> Result<String> {
    match shown(server).await?.iter().find(|certificate| token.trusts(certificate.as_ref())) {
        Some(ca) => Ok(pem(ca)),
        None => bail!("{server} is not the server that the token is for: none of its certificates is the pinned CA"),
    }
}

/// The certificates that a server shows, unverified.
pub async fn shown(server: &str) -> Result<Vec<CertificateDer<'static>>> {
    let uri: http::Uri = server.parse().with_context(|| format!("{server:?} is no URL"))?;
    let host = uri.host().with_context(|| format!("{server:?} names no host"))?.to_owned();
    if uri.scheme_str() != Some("https") {
        bail!("{server:?} must begin with https://");
    }
    let port = uri.port_u16().unwrap_or(6443);
    // Any server is accepted, once, to see its chain, which is what counts. Nothing is said on this connection.
    let seen = client::tls::Chain::default();
    let connector = tokio_rustls::TlsConnector::from(client::tls::witness(&seen));
    let name = ServerName::try_from(host.clone()).with_context(|| format!("{host:?} is no server name"))?;
    let greet = async {
        let stream = TcpStream::connect((host.as_str(), port)).await.with_context(|| format!("connect to {server}"))?;
        connector.connect(name, stream).await.with_context(|| format!("speak TLS with {server}"))
    };
    let Ok(greeted) = tokio::time::timeout(GREETING_LIMIT, greet).await else {
        bail!("{server} did not answer within {} s", GREETING_LIMIT.as_secs());
    };
    greeted?;
    let chain = std::mem::take(&mut *seen.lock());
    Ok(chain)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate.as_ref());
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// What makes a machine a member of the cluster: the CA by which it knows the server, and its certificate as client.
pub struct Membership {
    pub ca_pem: String,
    pub client: Pair,
}

/// The node's certificate as a client of the API.
fn client_profile(machine: &Machine) -> Profile {
    Profile::client(&format!("system:node:{}", machine.name), &["system:nodes"])
}

/// The kubelet's certificate as a server.
fn serving_profile(machine: &Machine) -> Profile {
    Profile {
        names: vec![machine.name.clone(), machine.ip.to_string()],
        server: true,
        client: false,
        ..client_profile(machine)
    }
}

fn stored_pair(layout: &Layout, name: &str) -> Option<Pair> {
    let read = |suffix: &str| std::fs::read_to_string(layout.pki().join(format!("{name}.{suffix}"))).ok();
    Some(Pair { certificate: read("crt")?, key: read("key")? })
}

/// Reads what an earlier join left, if it is all there and of the cluster that the token is for.
pub fn stored(layout: &Layout, token: &JoinToken) -> Result<Option<Membership>> {
    let (Ok(ca_pem), Some(client)) =
        (std::fs::read_to_string(layout.pki().join("ca.crt")), stored_pair(layout, "kubelet-client"))
    else {
        return Ok(None);
    };
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).context("read the stored CA")?;
    if !token.trusts(ca.as_ref()) {
        let dir = layout.dir().display();
        bail!("{dir} is a member of another cluster than the token's; `cox reset --data-dir {dir}` lets it leave");
    }
    Ok(Some(Membership { ca_pem, client }))
}

/// How the node's two certificates stand: as client, as server.
pub fn standings(layout: &Layout, membership: &Membership, machine: &Machine, now: Timestamp) -> (Standing, Standing) {
    let serving = stored_pair(layout, SERVING)
        .map_or(Standing::Useless, |pair| pki::standing(&pair, &serving_profile(machine).names, now));
    (pki::standing(&membership.client, &[], now), serving)
}

/// A kubeconfig's client for a node's certificate.
pub async fn client_of(server: &str, membership: &Membership, machine: &Machine) -> Result<Client> {
    let user = client_profile(machine).common_name;
    let text = kubeconfig(server, &membership.ca_pem, &user, Credentials::Certificate(&membership.client));
    Ok(client::from_kubeconfig_text(&text).await?)
}

/// Joins with a token. Nothing is written before the server has said yes.
pub async fn join(layout: &Layout, server: &str, token: &JoinToken, machine: &Machine) -> Result<Membership> {
    let ca_pem = server_ca(server, token).await?;
    let text = kubeconfig(server, &ca_pem, "bootstrap", Credentials::Token(&token.bearer));
    let client = client::from_kubeconfig_text(&text).await?;
    let membership = renew_client(layout, &client, &ca_pem, machine).await.map_err(|error| {
        match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) if status.code == 401 => error.context(format!(
                "{server} does not accept the token: it is wrong, its time is over, or it was deleted"
            )),
            _ => error,
        }
    })?;
    write_private(&layout.pki().join("ca.crt"), ca_pem.as_bytes())?;
    Ok(membership)
}

/// Gets the node's certificate as client anew; `client` may be the bootstrap token's or the node's own.
pub async fn renew_client(layout: &Layout, client: &Client, ca_pem: &str, machine: &Machine) -> Result<Membership> {
    let pair = request(client, csr::SIGNER_KUBELET_CLIENT, &client_profile(machine), "client auth").await?;
    store_pair(layout, "kubelet-client", &pair)?;
    Ok(Membership { ca_pem: ca_pem.to_owned(), client: pair })
}

/// Gets the kubelet's certificate as server anew. The server grants it when it knows the Node by these names and
/// addresses, so the node must be registered before.
pub async fn renew_serving(layout: &Layout, client: &Client, machine: &Machine) -> Result<()> {
    let pair = request(client, csr::SIGNER_KUBELET_SERVING, &serving_profile(machine), "server auth").await?;
    store_pair(layout, SERVING, &pair)
}

fn store_pair(layout: &Layout, name: &str, pair: &Pair) -> Result<()> {
    let path = |suffix: &str| layout.pki().join(format!("{name}.{suffix}"));
    files::write_together(&[(&path("key"), &pair.key), (&path("crt"), &pair.certificate)])
        .with_context(|| format!("keep the certificate {name}"))
}

/// Asks for a certificate and waits until it is signed.
async fn request(client: &Client, signer: &str, profile: &Profile, usage: &str) -> Result<Pair> {
    let (request, key) = csr::generate(profile).context("make a certificate request")?;
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), usage.to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let made = api.create(&PostParams::default(), &object).await;
    let name = made.context("ask the server for a certificate")?.metadata.name.unwrap_or_default();
    let signed = async {
        loop {
            let current = api.get(&name).await.with_context(|| format!("look at CertificateSigningRequest {name}"))?;
            let status = current.status.unwrap_or_default();
            let refused = status.conditions.iter().flatten().find(|c| c.type_ == "Denied" || c.type_ == "Failed");
            if let Some(refused) = refused {
                bail!(
                    "the server refused CertificateSigningRequest {name}: {}",
                    refused.message.clone().unwrap_or_default()
                );
            }
            if let Some(certificate) = status.certificate.filter(|certificate| !certificate.0.is_empty()) {
                return String::from_utf8(certificate.0).context("the certificate is no PEM");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let Ok(certificate) = tokio::time::timeout(SIGNING_LIMIT, signed).await else {
        bail!("CertificateSigningRequest {name} was not signed within {} s", SIGNING_LIMIT.as_secs());
    };
    Ok(Pair { certificate: certificate?, key })
}
