//! `scale` by the scale subresource, and `autoscale`.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::change::for_each;
use super::create::one as create;
use crate::error::{ApiError, Result};
use crate::flags::Args;
use crate::output::{DryRun, Told};
use crate::session::{Query, Session};
use crate::target::Target;

pub(super) const FLAGS: &str = "
      --replicas=           How many Pods there shall be
      --current-replicas=   Only if there are this many now
      --resource-version=   Only if the object has this version
      --timeout=            Accepted
";

pub(super) const AUTOSCALE_FLAGS: &str = "
      --min=          The least number of Pods
      --max=          The greatest number of Pods
      --cpu-percent=  The CPU that is aimed at, in percent of what is requested
      --cpu=          The same, or a quantity
      --memory=       The memory that is aimed at, a quantity or a percentage
      --name=         The name of the HorizontalPodAutoscaler
      --save-config   Remember the object in its annotation, for apply
      --field-manager=  Name of the owner of the fields
";

pub(super) async fn run(args: &Args) -> Result<()> {
    args.required("replicas")?;
    let replicas = args.number("replicas")?.unwrap_or(-1);
    if replicas < 0 {
        bail!("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0");
    }
    let session = Session::open(args).await?;
    let dry = DryRun::of(args)?;
    let mut told = Told::new(args)?;
    for_each(&session, args, &args.words, async |target| {
        if !target.resource.has_subresource("scale") {
            return Err(ApiError::not_found("the server could not find the requested resource").into());
        }
        let path = format!("{}/scale", target.path());
        let scale = session.get(&path).await?;
        let current = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        if let Some(wanted) = args.number("current-replicas")?.filter(|n| *n >= 0 && *n != current) {
            bail!("Expected replicas to be {wanted}, was {current}");
        }
        let mut patch = json!({"spec": {"replicas": replicas}});
        if let Some(version) = args.get("resource-version") {
            patch["metadata"] = json!({"resourceVersion": version});
        }
        if dry != DryRun::Client {
            let query = dry.query(Query::new().with("fieldManager", "kubectl-scale"));
            session.patch(&query.on(&path), "application/merge-patch+json", &patch).await?;
        }
        let object = if told.has_form() { target.get(&session).await? } else { Value::Null };
        told.did(target, "scaled", &object)
    })
    .await
}

pub(super) async fn autoscale(args: &Args) -> Result<()> {
    args.required("max")?;
    let most = args.number("max")?.unwrap_or(-1);
    let least = args.number("min")?.unwrap_or(-1);
    if most < 1 {
        bail!("--max=MAXPODS is required and must be at least 1, max: {most}");
    }
    if least > most {
        bail!("--max=MAXPODS must be larger or equal to --min=MINPODS, max: {most}, min: {least}");
    }
    let session = Session::open(args).await?;
    let mut told = Told::new(args)?;
    let hpa = session.discovery().await?.of_group_kind("autoscaling", "HorizontalPodAutoscaler");
    let resource = hpa.context("the server has no HorizontalPodAutoscalers")?.clone();
    for_each(&session, args, &args.words, async |target| {
        target.get(&session).await?;
        let name = args.get("name").unwrap_or(&target.name).to_owned();
        let mut spec = json!({
            "maxReplicas": most,
            "scaleTargetRef": {
                "apiVersion": target.resource.api_version(), "kind": target.resource.kind, "name": target.name,
            },
        });
        if least > 0 {
            spec["minReplicas"] = least.into();
        }
        let cpu = args.get("cpu").map(str::to_owned).or(args.get("cpu-percent").map(|p| format!("{p}%")));
        let metrics: Vec<Value> = [("cpu", cpu), ("memory", args.get("memory").map(str::to_owned))]
            .into_iter()
            .filter_map(|(name, value)| Some(metric(name, &value?)))
            .collect();
        if !metrics.is_empty() {
            spec["metrics"] = metrics.into();
        }
        let object = json!({
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let made = Target {
            resource: resource.clone(),
            namespace: target.namespace.clone(),
            name,
            object: Some(object),
            source: None,
        };
        create(&session, args, &mut told, &made, "autoscaled").await
    })
    .await
}

fn metric(name: &str, value: &str) -> Value {
    let target = match value.strip_suffix('%').unwrap_or(value).parse::<i64>() {
        Ok(percent) if value.ends_with('%') => json!({"type": "Utilization", "averageUtilization": percent}),
        _ => json!({"type": "AverageValue", "averageValue": value}),
    };
    json!({"type": "Resource", "resource": {"name": name, "target": target}})
}
