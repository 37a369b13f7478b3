//! What the components in this repository ask for, each under its identity: the policy must let them work.

use super::{ask, with_defaults};
use crate::user::UserInfo;

#[test]
fn components_may_do_their_work() {
    let rbac = with_defaults();
    let controller = |name: &str| UserInfo::service_account("kube-system", name, "");
    let user = |name: &str| UserInfo::new(name, &[]);
    let table: &[(UserInfo, &[&str])] = &[
        (
            user("system:kube-scheduler"),
            &[
                "watch core/pods",
                "watch core/nodes",
                "watch core/namespaces",
                "watch core/services",
                "watch apps/replicasets",
                "watch apps/statefulsets",
                "watch policy/poddisruptionbudgets",
                "watch core/persistentvolumeclaims",
                "watch core/persistentvolumes",
                "watch storage.k8s.io/storageclasses",
                "update core/persistentvolumes -/v",
                "update core/persistentvolumeclaims ns/c",
                "create core/pods/binding ns",
                "patch core/pods/status ns/p",
                "delete core/pods ns/p",
                "create events.k8s.io/events ns",
                "patch events.k8s.io/events ns/e",
                "create coordination.k8s.io/leases kube-system",
                "get coordination.k8s.io/leases kube-system/kube-scheduler",
            ],
        ),
        (
            user("system:kube-controller-manager"),
            &[
                "watch core/pods",
                "watch core/configmaps",
                "watch certificates.k8s.io/certificatesigningrequests",
                "watch example.com/anything",
                "create coordination.k8s.io/leases kube-system",
                "update coordination.k8s.io/leases kube-system/kube-controller-manager",
            ],
        ),
        (
            controller("deployment-controller"),
            &[
                "create apps/replicasets ns",
                "patch apps/replicasets ns/r",
                "update apps/replicasets ns/r",
                "delete apps/replicasets ns/r",
                "update apps/deployments ns/d",
                "update apps/deployments/status ns/d",
                "create events.k8s.io/events ns",
            ],
        ),
        (
            controller("replicaset-controller"),
            &[
                "create core/pods ns",
                "patch core/pods ns/p",
                "delete core/pods ns/p",
                "update apps/replicasets/status ns/r",
            ],
        ),
        (
            controller("namespace-controller"),
            &[
                "deletecollection core/secrets ns",
                "list example.com/things ns",
                "delete example.com/things ns/t",
                "update core/namespaces/status ns/ns",
                "update core/namespaces/finalize ns/ns",
            ],
        ),
        (controller("service-account-controller"), &["create core/serviceaccounts ns"]),
        (
            controller("root-ca-cert-publisher"),
            &["create core/configmaps ns", "update core/configmaps ns/kube-root-ca.crt"],
        ),
        (
            controller("node-controller"),
            &[
                "patch core/nodes -/n",
                "patch core/nodes/status -/n",
                "delete core/pods ns/p",
                "patch core/pods/status ns/p",
            ],
        ),
        (
            controller("endpointslice-controller"),
            &[
                "create discovery.k8s.io/endpointslices ns",
                "update discovery.k8s.io/endpointslices ns/s",
                "delete discovery.k8s.io/endpointslices ns/s",
            ],
        ),
        (
            controller("endpoint-controller"),
            &["create core/endpoints ns", "update core/endpoints ns/e", "delete core/endpoints ns/e"],
        ),
        (
            controller("generic-garbage-collector"),
            &[
                "delete apps/replicasets ns/r",
                "patch core/pods ns/p",
                "get example.com/things ns/t",
                "watch example.com/things",
                "create core/events ns",
            ],
        ),
        (
            controller("pod-garbage-collector"),
            &["delete core/pods ns/p", "patch core/pods/status ns/p", "get core/nodes -/n"],
        ),
        (
            controller("disruption-controller"),
            &[
                "update policy/poddisruptionbudgets/status ns/b",
                "patch core/pods/status ns/p",
                "get apps/statefulsets ns/s",
                "get example.com/things/scale ns/t",
                "create core/events ns",
            ],
        ),
        (
            controller("replication-controller"),
            &[
                "create core/pods ns",
                "patch core/pods ns/p",
                "delete core/pods ns/p",
                "update core/replicationcontrollers/status ns/r",
            ],
        ),
        (
            controller("endpointslicemirroring-controller"),
            &[
                "create discovery.k8s.io/endpointslices ns",
                "update discovery.k8s.io/endpointslices ns/s",
                "delete discovery.k8s.io/endpointslices ns/s",
            ],
        ),
        (controller("pvc-protection-controller"), &["update core/persistentvolumeclaims ns/c", "list core/pods ns"]),
        (
            controller("persistent-volume-binder"),
            &[
                "update core/persistentvolumes -/v",
                "update core/persistentvolumes/status -/v",
                "delete core/persistentvolumes -/v",
                "get core/persistentvolumeclaims ns/c",
                "update core/persistentvolumeclaims ns/c",
                "update core/persistentvolumeclaims/status ns/c",
                "create core/events ns",
            ],
        ),
        (controller("pv-protection-controller"), &["update core/persistentvolumes -/v"]),
        (controller("token-cleaner"), &["delete core/secrets kube-system/bootstrap-token-x"]),
        (
            controller("certificate-controller"),
            &[
                "update certificates.k8s.io/certificatesigningrequests/approval -/c",
                "update certificates.k8s.io/certificatesigningrequests/status -/c",
                "approve certificates.k8s.io/signers -/kubernetes.io/kube-apiserver-client-kubelet",
                "approve certificates.k8s.io/signers -/kubernetes.io/kubelet-serving",
                "sign certificates.k8s.io/signers -/kubernetes.io/kube-apiserver-client",
                "sign certificates.k8s.io/signers -/kubernetes.io/kubelet-serving",
                "delete certificates.k8s.io/certificatesigningrequests -/c",
                "create authorization.k8s.io/subjectaccessreviews",
            ],
        ),
        (controller("service-controller"), &["patch core/services/status ns/s", "watch core/nodes"]),
        (
            controller("clusterrole-aggregation-controller"),
            &[
                "patch rbac.authorization.k8s.io/clusterroles -/admin",
                "escalate rbac.authorization.k8s.io/clusterroles -/x",
            ],
        ),
        (
            controller("coredns"),
            &[
                "watch core/services",
                "watch core/namespaces",
                "watch core/nodes",
                "watch discovery.k8s.io/endpointslices",
                "create core/services kube-system",
                "update core/services kube-system/kube-dns",
                "update discovery.k8s.io/endpointslices kube-system/s",
            ],
        ),
        (
            user("system:kube-proxy"),
            &[
                "watch core/services",
                "watch discovery.k8s.io/endpointslices",
                "watch core/nodes",
                "create core/events ns",
            ],
        ),
        (UserInfo::node("n"), &["watch core/services", "watch core/nodes", "watch discovery.k8s.io/endpointslices"]),
    ];
    for (user, requests) in table {
        for request in *requests {
            assert_eq!(ask(&rbac, user, request).map(|_| ()), Ok(()), "{}", user.name);
        }
    }
}
