//! `run`: one Pod of an image.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::change::pairs;
use super::create::one as create;
use super::expose::overridden;
use super::{attach, delete, pods, wait};
use crate::Target;
use crate::error::Result;
use crate::flags::Args;
use crate::output::{DryRun, Told};
use crate::session::Session;

pub(super) const FLAGS: &str = "
      --image=              The image
      --image-pull-policy=  Always, IfNotPresent or Never
      --port=               The port that the container listens on
      --expose              Make a Service for --port too
      --env=+               NAME=VALUE in the environment
  -l, --labels=             Labels of the Pod
      --annotations=+       KEY=VALUE in the annotations
      --restart=            Always, OnFailure or Never
      --command             The words after -- are the command, not its arguments
  -i, --stdin               Keep standard input open
  -t, --tty                 A terminal
      --attach              Attach to the container when it runs
      --rm                  Delete the Pod when what was attached to is over
      --leave-stdin-open    Accepted
  -q, --quiet               Without messages
      --privileged          Run the container in privileged mode
      --overrides=          JSON that is merged into the Pod
      --override-type=      Accepted
      --save-config         Remember the object in its annotation, for apply
      --field-manager=      Name of the owner of the fields
      --grace-period=       With --rm: seconds given to the Pod
      --pod-running-timeout=  How long to wait for the Pod when attaching, 1m if not given
      --wait                Accepted
      --timeout=            Accepted
      --cascade[=background]  Accepted
";

pub(super) async fn run(args: &Args) -> Result<()> {
    if args.get("image").is_none_or(str::is_empty) {
        bail!("required flag(s) \"image\" not set");
    }
    let image = args.get("image").unwrap_or_default();
    if !image.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c)) {
        bail!("invalid image name {image:?}: invalid reference format");
    }
    let (name, command) = match args.words.split_first() {
        Some((name, rest)) if args.dash != Some(0) => (name, rest),
        _ => bail!("NAME is required for run\nSee 'cox run -h' for help and examples"),
    };
    let is_attached = args.on("attach") || args.on("stdin") || args.on("tty");
    if args.on("rm") && !is_attached {
        bail!("--rm should only be used for attached containers");
    }
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    let target = Target {
        resource: pods::pod_resource(),
        namespace: session.namespace.clone(),
        name: name.clone(),
        object: Some(pod(args, name, command)?),
        source: None,
    };
    if !(is_attached && args.on("rm")) || DryRun::of(args)? != DryRun::No {
        create(&session, args, &mut told, &target, "created").await?;
    } else {
        let object = target.object.as_ref().context("the Pod was made above")?;
        session.post(&target.resource.path(&target.namespace), object).await?;
    }
    if args.on("expose") {
        expose(&session, args, &mut told, &target).await?;
    }
    if !is_attached || DryRun::of(args)? != DryRun::No {
        return Ok(());
    }
    let attached = attach::to_new_pod(&session, args, &target).await;
    if args.on("rm") {
        let mut options = json!({"propagationPolicy": "Background"});
        if let Some(seconds) = args.number("grace-period")?.filter(|s| *s >= 0) {
            options["gracePeriodSeconds"] = seconds.into();
        }
        session.delete(&target.path(), &options).await?;
        if !args.on("quiet") {
            crate::output::line(delete::said(&target, "deleted"))?;
        }
        wait::until_gone(&session, &target, "", None).await?;
    }
    attached
}

fn pod(args: &Args, name: &str, command: &[String]) -> Result<Value> {
    let mut container = json!({"name": name, "image": args.get("image"), "resources": {}});
    if !command.is_empty() {
        container[if args.on("command") { "command" } else { "args" }] = json!(command);
    }
    if let Some(policy) = args.get("image-pull-policy") {
        container["imagePullPolicy"] = policy.into();
    }
    if let Some(port) = args.number("port")? {
        container["ports"] = json!([{"containerPort": port}]);
    }
    let mut env = Vec::new();
    for variable in args.all("env") {
        let (key, value) = variable.split_once('=').with_context(|| format!("invalid env: {variable}"))?;
        env.push(json!({"name": key, "value": value}));
    }
    if !env.is_empty() {
        container["env"] = env.into();
    }
    if args.on("stdin") {
        container["stdin"] = true.into();
        container["stdinOnce"] = true.into();
    }
    if args.on("tty") {
        container["tty"] = true.into();
    }
    if args.on("privileged") {
        container["securityContext"] = json!({"privileged": true});
    }
    let labels = match args.get("labels") {
        Some(text) => pairs(text)?,
        None => vec![("run".to_owned(), name.to_owned())],
    };
    let labels: std::collections::BTreeMap<_, _> = labels.into_iter().collect();
    let mut metadata = json!({"name": name, "labels": labels});
    for pair in args.all("annotations") {
        let (key, value) = pair.split_once('=').with_context(|| format!("invalid annotation {pair}"))?;
        metadata["annotations"][key] = value.into();
    }
    let restart = args.get("restart").unwrap_or("Always");
    if !matches!(restart, "Always" | "OnFailure" | "Never") {
        bail!("invalid restart policy: {restart}, valid values are: Always, OnFailure, Never");
    }
    let spec = json!({"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}});
    overridden(args, pod)
}

async fn expose(session: &Session, args: &Args, told: &mut Told<'_>, pod: &Target) -> Result<()> {
    let port = args.number("port")?.context("--port must be set when exposing a service")?;
    let labels = pod.object.as_ref().and_then(|pod| pod.pointer("/metadata/labels")).cloned().unwrap_or_default();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": pod.name},
        "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": labels},
        "status": {"loadBalancer": {}},
    });
    let resource = session.discovery().await?.find("services")?.clone();
    let target = Target { resource, object: Some(service), ..pod.clone() };
    create(session, args, told, &target, "created").await
}
