//! CertificateSigningRequests: approves what nodes ask for themselves, signs what is approved for the signers of
//! `kubernetes.io`, cleans away what is settled.

mod plan;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use apiserver_auth::pki::Authority;
use apiserver_auth::pki::csr::{self, Request};
use client::informer::key_of;
use client::{Api, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams};
use kube::{Client, ResourceExt};

use crate::context::{Context, gone_is_fine, is_code};

const NAME: &str = "certificate-controller";
const WORKERS: usize = 2;

struct Controller {
    context: Arc<Context>,
    client: Client,
    authority: Authority,
    queue: WorkQueue<NamespacedName>,
}

pub fn start(context: &Arc<Context>, authority: Authority) {
    let queue = context.queue();
    let changed = queue.clone();
    context.certificate_requests.on_change(move |change| changed.add(key_of(&**change.object())));
    let (changed, requests) = (queue.clone(), context.certificate_requests.clone());
    context.nodes.on_change(move |change| {
        // Its addresses may be what an open request of this node waits for.
        let user = format!("system:node:{}", change.object().name_any());
        let waiting =
            requests.filter(|request| request.spec.username.as_ref() == Some(&user) && plan::is_open(request));
        waiting.iter().for_each(|request| changed.add(key_of(&**request)));
    });
    let (requests, nodes) = (context.certificate_requests.clone(), context.nodes.clone());
    let services = context.services.clone();
    let ready = async move {
        requests.synced().await;
        services.synced().await;
        nodes.synced().await;
    };
    let client = context.client(NAME);
    let controller = Arc::new(Controller { context: Arc::clone(context), client, authority, queue: queue.clone() });
    context.spawn(NAME, queue, WORKERS, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

impl Controller {
    fn api(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.client.clone())
    }

    async fn sync(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(object) = self.context.certificate_requests.get("", &key.name) else { return Ok(()) };
        let now = Timestamp::now();
        match plan::expires(&object) {
            Some(end) if end <= now => {
                let deleted = self.api().delete(&key.name, &DeleteParams::default()).await;
                return gone_is_fine(deleted).with_context(|| format!("clean away certificate request {}", key.name));
            }
            Some(end) => self.queue.add_after(key.clone(), now.duration_until(end).unsigned_abs()),
            None => {}
        }
        if plan::is_open(&object) {
            return self.approve(&object).await;
        }
        let approved = plan::has_condition(&object, "Approved") && !plan::has_condition(&object, "Denied");
        if approved && !plan::has_condition(&object, "Failed") && !plan::is_issued(&object) {
            return self.sign(&object, now).await;
        }
        Ok(())
    }

    async fn approve(&self, object: &CertificateSigningRequest) -> anyhow::Result<()> {
        // What cannot be read is nobody's to approve; the API server refuses such requests when they are made.
        let Ok(request) = Request::from_pem(&object.spec.request.0) else { return Ok(()) };
        for approval in plan::client_approvals(object, &request) {
            if self.may_create(object, approval.subresource).await? {
                return self.write_approval(object, approval.message).await;
            }
        }
        let name = plan::serving_node(object, &request);
        let node = name.and_then(|name| self.context.nodes.get("", name));
        if node.is_some_and(|node| plan::may_serve(&request, &node, &self.taken(&node.name_any()))) {
            return self.write_approval(object, plan::SERVING).await;
        }
        Ok(())
    }

    /// The addresses that are another Node's or a Service's.
    fn taken(&self, node: &str) -> HashSet<IpAddr> {
        let others = self.context.nodes.filter(|other| other.name_any() != node);
        let mut taken: HashSet<IpAddr> = others.iter().flat_map(|other| plan::node_ips(other)).collect();
        for service in self.context.services.list() {
            let ips = service.spec.as_ref().and_then(|spec| spec.cluster_ips.as_ref());
            taken.extend(ips.into_iter().flatten().filter_map(|ip| ip.parse::<IpAddr>().ok()));
        }
        taken
    }

    async fn may_create(&self, object: &CertificateSigningRequest, subresource: &str) -> anyhow::Result<bool> {
        let spec = &object.spec;
        let text = |text: &str| Some(text.to_owned());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: text("certificates.k8s.io"),
                    resource: text("certificatesigningrequests"),
                    verb: text("create"),
                    version: text("*"),
                    subresource: text(subresource),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.with_context(|| format!("ask who may have request {}", object.name_any()))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn write_approval(&self, object: &CertificateSigningRequest, message: &str) -> anyhow::Result<()> {
        let fresh = with_condition(object, "Approved", "AutoApproved", message);
        let name = object.name_any();
        settled(self.api().replace_subresource("approval", &name, &PostParams::default(), &fresh).await)
            .with_context(|| format!("approve certificate request {name}"))
    }

    async fn sign(&self, object: &CertificateSigningRequest, now: Timestamp) -> anyhow::Result<()> {
        let spec = &object.spec;
        let name = object.name_any();
        let usages = spec.usages.as_deref().unwrap_or_default();
        let request =
            Request::from_pem(&spec.request.0).map_err(|why| anyhow::anyhow!("unable to parse csr {name:?}: {why}"))?;
        let fresh = match csr::validate(&spec.signer_name, &request, usages) {
            Ok(false) => return Ok(()),
            Err(message) => with_condition(object, "Failed", "SignerValidationFailure", &message),
            Ok(true) => {
                let seconds = spec.expiration_seconds.map(i64::from);
                let signed = csr::sign(&request, usages, seconds, &self.authority, now);
                let certificate = signed.with_context(|| format!("error auto signing csr: {name}"))?;
                let mut fresh = object.clone();
                fresh.status.get_or_insert_default().certificate = Some(ByteString(certificate.into_bytes()));
                fresh
            }
        };
        settled(self.api().replace_status(&name, &PostParams::default(), &fresh).await)
            .with_context(|| format!("write the status of certificate request {name}"))
    }
}

fn with_condition(
    object: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
) -> CertificateSigningRequest {
    let mut fresh = object.clone();
    let status = fresh.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(Timestamp::now())),
        ..CertificateSigningRequestCondition::default()
    });
    fresh
}

/// A request that changed or went meanwhile brings its own next event.
fn settled<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
        result => result.map(drop),
    }
}
