//! Probes and lifecycle hooks of containers.

use super::validate::PodScope;
use crate::Object;
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{non_negative, one_of, port, required};
use crate::kinds::json::{get, int, list, object, objects, text};
use crate::names;

/// All probes and the lifecycle of a container that may have them.
pub fn probes(container: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    if let Some(lifecycle) = object(container, "lifecycle") {
        let path = path.child("lifecycle");
        for key in ["postStart", "preStop"] {
            if let Some(hook) = object(lifecycle, key) {
                handler(hook, &["exec", "httpGet", "tcpSocket", "sleep"], scope, &path.child(key), errors);
            }
        }
        stop_signal(lifecycle, scope, &path.child("stopSignal"), errors);
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = object(container, key) else { continue };
        let path = path.child(key);
        check_probe(probe, scope, &path, errors);
        if key == "readinessProbe" {
            if let Some(seconds) = int(probe, "terminationGracePeriodSeconds") {
                let detail = "must not be set for readinessProbes";
                errors.push(FieldError::invalid(&path.child("terminationGracePeriodSeconds"), seconds, detail));
            }
        } else if let Some(threshold) = int(probe, "successThreshold").filter(|t| *t != 1) {
            errors.push(FieldError::invalid(&path.child("successThreshold"), threshold, "must be 1"));
        }
    }
}

fn check_probe(probe: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], scope, path, errors);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        non_negative(probe, key, path, errors);
    }
    if let Some(seconds) = int(probe, "terminationGracePeriodSeconds").filter(|s| *s <= 0) {
        let path = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
    }
}

fn handler(handler: &Object, kinds: &[&str], scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    let mut found = false;
    for key in kinds {
        let Some(action) = object(handler, key) else { continue };
        let path = path.child(key);
        if found {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match *key {
            "exec" if list(action, "command").is_empty() => {
                errors.push(FieldError::required(&path.child("command"), ""));
            }
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" | "grpc" => port(action, "port", &path, errors),
            "sleep" => sleep(action, scope, &path, errors),
            _ => {}
        }
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Object, path: &Path, errors: &mut ErrorList) {
    required(action, "path", path, errors);
    port(action, "port", path, errors);
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(FieldError::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for (_, header) in objects(action, "httpHeaders") {
        let name = text(header, "name");
        let found = names::http_header_name(name).into_iter();
        errors.extend(found.map(|message| FieldError::invalid(&path.child("httpHeaders"), name, message)));
    }
}

fn sleep(action: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    let seconds = int(action, "seconds").unwrap_or(0);
    if let Some(grace) = scope.grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(path, seconds, detail));
    }
}

fn stop_signal(lifecycle: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    if get(lifecycle, "stopSignal").is_none() {
        return;
    }
    let signal = text(lifecycle, "stopSignal");
    match scope.os {
        Some("windows") if !matches!(signal, "SIGKILL" | "SIGTERM") => {
            errors.push(FieldError::not_supported(path, signal, &["SIGKILL", "SIGTERM"]));
        }
        Some("linux") => {
            let signals = linux_signals();
            if !signals.iter().any(|s| s == signal) {
                let signals: Vec<&str> = signals.iter().map(String::as_str).collect();
                errors.push(FieldError::not_supported(path, signal, &signals));
            }
        }
        // Upstream drops the field unless a feature gate is on, which would ask for the system's name.
        _ => {}
    }
}

/// Sorted by name.
fn linux_signals() -> Vec<String> {
    const NAMED: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP \
                         SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";
    let named = NAMED.split_whitespace().map(|name| format!("SIG{name}"));
    let real_time = (1..=15).map(|n| format!("SIGRTMIN+{n}")).chain((1..=14).map(|n| format!("SIGRTMAX-{n}")));
    let mut all: Vec<String> = named.chain(real_time).collect();
    all.sort();
    all
}

/// An init container that does not keep running has neither probes nor lifecycle.
pub fn none_allowed(container: &Object, path: &Path, errors: &mut ErrorList) {
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if object(container, key).is_some() {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(&path.child(key), detail));
        }
    }
}

/// `restartPolicy` and `restartPolicyRules` of a container (KEP-5307).
pub fn restart_policy(container: &Object, path: &Path, errors: &mut ErrorList) {
    let rules = list(container, "restartPolicyRules");
    if get(container, "restartPolicy").is_some() {
        const ALLOWED: [&str; 3] = ["Always", "Never", "OnFailure"];
        let policy = text(container, "restartPolicy");
        if !ALLOWED.contains(&policy) {
            errors.push(FieldError::not_supported(&path.child("restartPolicy"), policy, &ALLOWED));
        }
    } else if !rules.is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(&path.child("restartPolicy"), detail));
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&path, rules.len(), 20));
    }
    for (i, rule) in objects(container, "restartPolicyRules") {
        let path = path.index(i);
        one_of(rule, "action", &["Restart", "RestartAllContainers"], &path, errors);
        let Some(codes) = object(rule, "exitCodes") else {
            errors.push(FieldError::required(&path.child("exitCodes"), "must be specified"));
            continue;
        };
        let path = path.child("exitCodes");
        one_of(codes, "operator", &["In", "NotIn"], &path, errors);
        let values = list(codes, "values").len();
        if values > 255 {
            errors.push(FieldError::too_many(&path.child("values"), values, 255));
        }
    }
}
