//! Authentication, authorization and admission, put together from the room's parts and kept in step with the caches.

use std::sync::{Arc, OnceLock};

use api::{Object, Resource};
use apiserver_admission as admission;
use apiserver_auth::authn::x509::{CertificateError, ClientCertificates};
use apiserver_auth::rbac::Rbac;
use apiserver_auth::token::{Keys, Tokens};
use apiserver_auth::{Authenticator, Authorizer, Change, Objects};
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;

use crate::cache::Observer;

/// Who is it, may they, what else must hold.
pub struct Access {
    pub authenticator: Authenticator,
    pub authorizer: Arc<dyn Authorizer>,
    pub rbac: Arc<Rbac>,
    pub admission: admission::Chain,
    /// How TLS asks for client certificates.
    pub client_verifier: Arc<dyn ClientCertVerifier>,
}

impl Access {
    /// `objects` are the caches before the feed moves them; `indexes` is told of every later change.
    pub fn new(
        authority: CertificateDer<'static>,
        keys: Keys,
        objects: &dyn Objects,
        indexes: &Indexes,
    ) -> Result<Self, CertificateError> {
        let certificates = ClientCertificates::new(&[authority])?;
        let client_verifier = certificates.tls_verifier();
        let tokens = Arc::new(Tokens::with_defaults(keys));
        let (authorizer, rbac) = apiserver_auth::authorize::standard(objects);
        let authorizer: Arc<dyn Authorizer> = authorizer;
        if indexes.rbac.set(rbac.clone()).is_err() {
            unreachable!("indexes belong to one server");
        }
        Ok(Self {
            authenticator: Authenticator::new(certificates, tokens),
            admission: admission::standard(&authorizer, &rbac),
            authorizer,
            rbac,
            client_verifier,
        })
    }
}

/// The indexes that authorizers keep over objects.
#[derive(Default)]
pub struct Indexes {
    rbac: OnceLock<Arc<Rbac>>,
}

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

impl Observer for Indexes {
    fn wants(&self, resource: &Resource) -> bool {
        resource.group == RBAC_GROUP
    }

    fn changed(&self, resource: &Resource, namespace: &str, name: &str, object: Option<&Object>) {
        let gvr = resource.gvr();
        if let Some(rbac) = self.rbac.get() {
            rbac.changed(&Change { gvr: &gvr, namespace, name, object });
        }
    }
}
