//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction and ClusterTrustBundleAttest: who may do what
//! in the name of a signer.

use std::sync::Arc;

use api::{Gvr, Object, Status, object};
use apiserver_auth::pki::csr;
use apiserver_auth::user::GROUP_MASTERS;
use apiserver_auth::{Attributes, Authorizer, Objects};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::read::same;
use crate::{Operation, Plugin, Request};

const GROUP: &str = "certificates.k8s.io";

/// Whether the user has the verb for the signer, or for all signers of its domain.
fn may(request: &Request<'_>, verb: &str, signer: &str, authorizer: &dyn Authorizer, objects: &dyn Objects) -> bool {
    let domain = format!("{}/*", signer.split('/').next().unwrap_or(""));
    [signer, &domain].iter().any(|name| {
        let attributes = Attributes { name, ..Attributes::resource(request.user, verb, GROUP, "signers") };
        authorizer.authorize(&attributes, objects).is_allowed()
    })
}

fn is_requests(gvr: &Gvr) -> bool {
    gvr.group == GROUP && gvr.resource == "certificatesigningrequests"
}

fn signer(object: &Object) -> &str {
    object::str_at(object, &["spec", "signerName"])
}

/// The PEM of a request's `spec.request`.
pub(crate) fn pem(request: &Object) -> Vec<u8> {
    STANDARD.decode(object::str_at(request, &["spec", "request"])).unwrap_or_default()
}

pub struct CertificateApproval(pub Arc<dyn Authorizer>);

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Update && is_requests(gvr) && subresource == "approval"
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        // The stored signer counts: the caller may try to change it.
        let signer = request.old.map_or("", signer);
        if may(request, "approve", signer, &*self.0, objects) {
            return Ok(());
        }
        Err(request.forbidden(&format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

pub struct CertificateSigning(pub Arc<dyn Authorizer>);

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Update && is_requests(gvr) && subresource == "status"
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let (Some(new), Some(old)) = (&request.object, request.old) else { return Ok(()) };
        let unchanged = |key| same(object::at(new, &["status", key]), object::at(old, &["status", key]));
        let signer = signer(old);
        if unchanged("certificate") && unchanged("conditions") || may(request, "sign", signer, &*self.0, objects) {
            return Ok(());
        }
        Err(request.forbidden(&format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

pub struct CertificateSubjectRestriction;

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Create && is_requests(gvr) && subresource.is_empty()
    }

    fn validate(&self, request: &Request<'_>, _: &dyn Objects) -> Result<(), Status> {
        let Some(asked) = request.object.as_ref().filter(|o| signer(o) == csr::SIGNER_CLIENT) else { return Ok(()) };
        let parsed = csr::Request::from_pem(&pem(asked))
            .map_err(|why| request.forbidden(&format!("failed to parse CSR: {why}")))?;
        if parsed.organizations.iter().any(|o| o == GROUP_MASTERS) {
            return Err(request.forbidden(&format!(
                "use of {} signer with {GROUP_MASTERS} group is not allowed",
                csr::SIGNER_CLIENT
            )));
        }
        Ok(())
    }
}

pub struct ClusterTrustBundleAttest(pub Arc<dyn Authorizer>);

impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, _: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && gvr.group == GROUP
            && gvr.resource == "clustertrustbundles"
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(bundle) = request.object.as_ref().filter(|o| !signer(o).is_empty()) else { return Ok(()) };
        // What changes no content was attested before.
        if request.old.is_some_and(|old| same(bundle.get("spec"), old.get("spec"))) {
            return Ok(());
        }
        let signer = signer(bundle);
        if may(request, "attest", signer, &*self.0, objects) {
            return Ok(());
        }
        Err(request.forbidden(&format!("user not permitted to attest for signerName {signer:?}")))
    }
}
