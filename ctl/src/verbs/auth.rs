//! `auth can-i`, `auth whoami`, and `certificate approve` and `deny`.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::change::for_each;
use super::pods::{items, text};
use super::rules;
use crate::error::{Exit, Result};
use crate::flags::Args;
use crate::output::{self, Output, Told, line, tabs};
use crate::session::Session;

pub(super) const CAN_I_FLAGS: &str = "
      --list             All that is allowed
  -A, --all-namespaces   In all namespaces
      --subresource=     Of this subresource
  -q, --quiet            Only the exit code
      --no-headers       Without the header line
";

pub(super) async fn can_i(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    if args.on("list") {
        return list(&session, args).await;
    }
    let (verb, what, name) = match args.words.as_slice() {
        [verb, what] => (verb, what, ""),
        [verb, what, name] => (verb, what, name.as_str()),
        _ => bail!(
            "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'cox auth can-i -h' for help and examples."
        ),
    };
    let spec = match what.starts_with('/') {
        true => json!({"nonResourceAttributes": {"path": what, "verb": verb}}),
        false => json!({"resourceAttributes": attributes(&session, args, verb, what, name).await?}),
    };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
    let answer = session.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await?;
    let is_allowed = answer.pointer("/status/allowed") == Some(&Value::Bool(true));
    if !args.on("quiet") {
        let mut said = if is_allowed { "yes" } else { "no" }.to_owned();
        if !is_allowed && !text(&answer, "/status/reason").is_empty() {
            said.push_str(&format!(" - {}", text(&answer, "/status/reason")));
        }
        if !text(&answer, "/status/evaluationError").is_empty() {
            said.push_str(&format!(" - {}", text(&answer, "/status/evaluationError")));
        }
        line(said)?;
    }
    if is_allowed { Ok(()) } else { Err(Exit(1).into()) }
}

async fn attributes(session: &Session, args: &Args, verb: &str, what: &str, name: &str) -> Result<Value> {
    let (ty, name) = what.split_once('/').unwrap_or((what, name));
    let (group, resource, is_namespaced) = match session.discovery().await?.find(ty) {
        Ok(resource) => (resource.group.clone(), resource.plural.clone(), resource.is_namespaced),
        Err(_) if ty == "*" => ("*".to_owned(), "*".to_owned(), true),
        Err(_) => {
            eprintln!("Warning: the server doesn't have a resource type '{ty}'\n");
            let (resource, group) = ty.split_once('.').unwrap_or((ty, ""));
            (group.to_owned(), resource.to_owned(), true)
        }
    };
    if !is_namespaced && !args.on("all-namespaces") {
        let in_group = if group.is_empty() { String::new() } else { format!(" in group '{group}'") };
        eprintln!("Warning: resource '{resource}' is not namespace scoped{in_group}\n");
    }
    let namespace = if args.on("all-namespaces") { "" } else { session.namespace.as_str() };
    let mut attributes =
        json!({"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name});
    if let Some(subresource) = args.get("subresource") {
        attributes["subresource"] = subresource.into();
    }
    Ok(attributes)
}

async fn list(session: &Session, args: &Args) -> Result<()> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": session.namespace},
    });
    let answer = session.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review).await?;
    let rules = items(&answer, "/status/resourceRules").chain(items(&answer, "/status/nonResourceRules"));
    let rows: String = rules::rows(rules).into_iter().map(|row| row + "\n").collect();
    let header = if args.on("no-headers") { "" } else { "Resources\tNon-Resource URLs\tResource Names\tVerbs\n" };
    output::put(&tabs::TABLE.align(&format!("{header}{rows}")))
}

pub(super) async fn whoami(args: &Args) -> Result<()> {
    let session = Session::open(args).await?;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = session.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await?;
    if let Output::Objects(form) = Output::of(args)? {
        return output::put(&form.text(&answer, args)?);
    }
    let list = |value: Option<&Value>| {
        let all: Vec<&str> = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        format!("[{}]", all.join(" "))
    };
    let info = answer.pointer("/status/userInfo").context("the review has no user")?;
    let mut table = format!("ATTRIBUTE\tVALUE\nUsername\t{}\n", text(info, "/username"));
    if !text(info, "/uid").is_empty() {
        table.push_str(&format!("UID\t{}\n", text(info, "/uid")));
    }
    if info.get("groups").is_some() {
        table.push_str(&format!("Groups\t{}\n", list(info.get("groups"))));
    }
    for (key, values) in info.get("extra").and_then(Value::as_object).into_iter().flatten() {
        table.push_str(&format!("Extra: {key}\t{}\n", list(Some(values))));
    }
    output::put(&tabs::TABLE.align(&table))
}

pub(super) const CERTIFICATE_FLAGS: &str = "
      --force   Also when it is decided already
";

pub(super) async fn approve(args: &Args) -> Result<()> {
    decide(args, "Approved", "approved").await
}

pub(super) async fn deny(args: &Args) -> Result<()> {
    decide(args, "Denied", "denied").await
}

async fn decide(args: &Args, condition: &str, said: &str) -> Result<()> {
    if args.words.is_empty() && args.all("filename").is_empty() {
        bail!("one or more CSRs must be specified as <name> or -f <filename>");
    }
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    let words: Vec<String> =
        std::iter::once("certificatesigningrequests".to_owned()).chain(args.words.iter().cloned()).collect();
    for_each(&session, args, &words, async |target| {
        let mut request = target.get(&session).await?;
        let has = items(&request, "/status/conditions").any(|c| text(c, "/type") == condition);
        if !has || args.on("force") {
            let now = api::time::rfc3339(jiff::Timestamp::now().as_second());
            let new = json!({
                "type": condition, "status": "True", "lastUpdateTime": now,
                "reason": if condition == "Approved" { "KubectlApprove" } else { "KubectlDeny" },
                "message": format!("This CSR was {said} by kubectl certificate {}.", if said == "denied" { "deny" } else { "approve" }),
            });
            let map = request.as_object_mut().context("a request is an object")?;
            let conditions = api::object::child_mut(map, "status").entry("conditions").or_insert_with(|| json!([]));
            let conditions = conditions.as_array_mut().context("conditions are a list")?;
            conditions.retain(|c| text(c, "/type") != condition);
            conditions.push(new);
            request = session.put(&format!("{}/approval", target.path()), &request).await?;
        }
        told.did(target, said, &request)
    })
    .await
}
