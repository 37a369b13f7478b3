//! The plugins that are on by default, in upstream's order.

use std::sync::Arc;

use apiserver_auth::{Authorizer, Rbac};

use crate::certificates::{
    CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest,
};
use crate::default_class::{DefaultIngressClass, DefaultStorageClass};
use crate::default_toleration_seconds::DefaultTolerationSeconds;
use crate::limit_ranger::LimitRanger;
use crate::namespace_lifecycle::NamespaceLifecycle;
use crate::node_restriction::NodeRestriction;
use crate::pod_topology_labels::PodTopologyLabels;
use crate::priority::Priority;
use crate::rbac_escalation::RbacEscalation;
use crate::runtime_class::RuntimeClass;
use crate::service_account::ServiceAccount;
use crate::storage::{PersistentVolumeClaimResize, StorageObjectInUseProtection};
use crate::taint_nodes::TaintNodesByCondition;
use crate::{Chain, Plugin};

/// The built-in plugins. PodSecurity belongs after TaintNodesByCondition; policies, webhooks and ResourceQuota, in this
/// order, come after all of these.
pub fn standard(authorizer: &Arc<dyn Authorizer>, rbac: &Arc<Rbac>) -> Chain {
    let plugins: Vec<Arc<dyn Plugin>> = vec![
        Arc::new(NamespaceLifecycle),
        Arc::new(LimitRanger),
        Arc::new(ServiceAccount),
        Arc::new(NodeRestriction(authorizer.clone())),
        Arc::new(TaintNodesByCondition),
        Arc::new(Priority),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(DefaultStorageClass),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(PersistentVolumeClaimResize),
        Arc::new(RuntimeClass),
        Arc::new(CertificateApproval(authorizer.clone())),
        Arc::new(CertificateSigning(authorizer.clone())),
        Arc::new(ClusterTrustBundleAttest(authorizer.clone())),
        Arc::new(CertificateSubjectRestriction),
        Arc::new(DefaultIngressClass),
        Arc::new(PodTopologyLabels),
        Arc::new(RbacEscalation { rbac: rbac.clone(), authorizer: authorizer.clone() }),
    ];
    Chain::new(plugins)
}
