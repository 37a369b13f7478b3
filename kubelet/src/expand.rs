//! `$(VAR)` in commands, arguments and environment: replaced when the name is known, `$$` is a literal `$`, everything
//! else stays as it is (the API's rules of container.command).

/// Expands `input`; names that `lookup` does not know stay with their brackets.
pub fn expand<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let named = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
        match named {
            Some((name, after)) => {
                match lookup(name) {
                    Some(value) => out.push_str(value),
                    None => {
                        out.push_str("$(");
                        out.push_str(name);
                        out.push(')');
                    }
                }
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

/// The first `$(NAME)` in a text that `lookup` does not know; subPathExpr may not have any.
pub fn missing<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let found = std::cell::RefCell::new(None);
    expand(input, |name| {
        let value = lookup(name);
        if value.is_none() {
            found.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    });
    found.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion_as_the_api_says() {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "B" => Some("$(A)"),
            _ => None,
        };
        for (input, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$A", "$A"),
            ("", ""),
        ] {
            assert_eq!(expand(input, lookup), want, "{input}");
        }
        assert_eq!(missing("$(A)$(C)", lookup).as_deref(), Some("C"));
        assert_eq!(missing("$(A)$$(C)", lookup), None);
    }
}
