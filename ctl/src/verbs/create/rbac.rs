//! Generators of rights: roles, their bindings, tokens.

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value, json};

use super::generate::name;
use super::made;
use crate::error::{Plain, Result};
use crate::flags::Args;
use crate::output::{Output, line, put};
use crate::session::Session;
use crate::verbs::change::pairs;
use crate::verbs::pods::text;

pub(crate) const ROLE_FLAGS: &str = "
      --verb=,              What is allowed
      --resource=,          On which resources, RESOURCE[.GROUP][/SUBRESOURCE]
      --resource-name=+     On which objects
      --non-resource-url=,  On which paths (clusterrole)
      --aggregation-rule=   Labels of roles that are put together (clusterrole)
";

pub(crate) const BINDING_FLAGS: &str = "
      --role=            The Role
      --clusterrole=     The ClusterRole
      --user=+           A user
      --group=+          A group
      --serviceaccount=+ NAMESPACE:NAME
";

pub(crate) const TOKEN_FLAGS: &str = "
      --audience=+          For whom
      --duration=           How long it is valid
      --bound-object-kind=  Pod, Secret or Node that it dies with
      --bound-object-name=  Its name
      --bound-object-uid=   Its uid
";

pub(crate) async fn role(args: &Args) -> Result<()> {
    role_of(args, "Role").await
}

pub(crate) async fn cluster_role(args: &Args) -> Result<()> {
    role_of(args, "ClusterRole").await
}

async fn role_of(args: &Args, kind: &str) -> Result<()> {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name(args)?},
    });
    if let Some(labels) = args.get("aggregation-rule") {
        let labels: Map<String, Value> = pairs(labels)?.into_iter().map(|(key, value)| (key, value.into())).collect();
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        object["rules"] = json!([]);
        return made(args, object).await;
    }
    let verbs = args.all("verb");
    if verbs.is_empty() {
        bail!("at least one verb must be specified");
    }
    let mut rules = Vec::new();
    if !args.all("resource").is_empty() {
        rules = resource_rules(&Session::open(args).await?, args, verbs).await?;
    }
    if !args.all("non-resource-url").is_empty() {
        rules.push(json!({"nonResourceURLs": args.all("non-resource-url"), "verbs": verbs}));
    }
    if rules.is_empty() {
        bail!("at least one resource must be specified");
    }
    object["rules"] = rules.into();
    made(args, object).await
}

/// One rule for each group.
async fn resource_rules(session: &Session, args: &Args, verbs: &[String]) -> Result<Vec<Value>> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for word in args.all("resource") {
        let (ty, subresource) = match word.split_once('/') {
            Some((ty, subresource)) => (ty, format!("/{subresource}")),
            None => (word.as_str(), String::new()),
        };
        let (group, resource) = match ty {
            "*" => ("*".to_owned(), "*".to_owned()),
            ty => {
                let found = session.discovery().await?.find(ty);
                let found = found.map_err(|error| Plain(error.to_string()))?;
                (found.group.clone(), format!("{}{subresource}", found.plural))
            }
        };
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, resources)) => resources.push(resource),
            None => groups.push((group, vec![resource])),
        }
    }
    let names = args.all("resource-name");
    let rule = |(group, resources): (String, Vec<String>)| {
        let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        rule
    };
    Ok(groups.into_iter().map(rule).collect())
}

pub(crate) async fn role_binding(args: &Args) -> Result<()> {
    binding(args, "RoleBinding").await
}

pub(crate) async fn cluster_role_binding(args: &Args) -> Result<()> {
    binding(args, "ClusterRoleBinding").await
}

async fn binding(args: &Args, kind: &str) -> Result<()> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let (role_kind, role) = match (args.get("role"), args.get("clusterrole")) {
        (Some(role), None) if kind == "RoleBinding" => ("Role", role),
        (None, Some(role)) => ("ClusterRole", role),
        _ if kind == "RoleBinding" => bail!("exactly one of clusterrole or role must be specified"),
        _ => bail!("clusterrole must be specified"),
    };
    let mut subjects = Vec::new();
    for (flag, kind) in [("user", "User"), ("group", "Group")] {
        subjects.extend(args.all(flag).iter().map(|name| json!({"apiGroup": GROUP, "kind": kind, "name": name})));
    }
    for account in args.all("serviceaccount") {
        let (namespace, name) = account.split_once(':').context("serviceaccount must be <namespace>:<name>")?;
        subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": name(args)?},
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    });
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    made(args, object).await
}

pub(crate) async fn token(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let mut spec = json!({});
    if !args.all("audience").is_empty() {
        spec["audiences"] = json!(args.all("audience"));
    }
    if let Some(seconds) = args.seconds("duration")?.filter(|seconds| *seconds > 0.0) {
        spec["expirationSeconds"] = (seconds as i64).into();
    }
    if let Some(kind) = args.get("bound-object-kind") {
        let mut bound = json!({"kind": kind, "apiVersion": "v1", "name": args.required("bound-object-name")?});
        if let Some(uid) = args.get("bound-object-uid") {
            bound["uid"] = uid.into();
        }
        spec["boundObjectRef"] = bound;
    }
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec});
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", session.namespace, name(args)?);
    let answer = session.post(&path, &request).await.map_err(|error| anyhow!("failed to create token: {error}"))?;
    match Output::of(args)? {
        Output::Table { .. } => line(text(&answer, "/status/token")),
        Output::Objects(form) => put(&form.text(&answer, args)?),
    }
}
