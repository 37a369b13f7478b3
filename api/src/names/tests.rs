//! Tests of the name validators.

use super::*;

#[test]
fn valid_names_have_no_errors() {
    let none: [&str; 0] = [];
    for ok in ["a", "a-b", "0", "a1"] {
        assert_eq!(dns1123_label(ok), none);
    }
    assert_eq!(dns1123_subdomain("a.b-c.d"), none);
    assert_eq!(wildcard_dns1123_subdomain("*.a.b"), none);
    assert_eq!(dns1035_label("a-1"), none);
    assert_eq!(qualified_name("example.com/My_Name"), none);
    assert_eq!(label_value(""), none);
    assert_eq!(path_segment("system:node"), none);
    assert_eq!(port_name("http-1"), none);
    assert_eq!(env_var_name("a.b-C 1"), none);
    assert_eq!(config_map_key("a.b_C"), none);
    assert_eq!(percent("25%"), none);
}

#[test]
fn messages_are_upstreams() {
    for (errors, message) in [
        (dns1123_label("a.b"), "must not contain dots"),
        (
            dns1123_label("A"),
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (qualified_name("/a"), "prefix part must be non-empty"),
        (qualified_name(&"a".repeat(64)), "name part must be no more than 63 bytes"),
        (label_value(&"a".repeat(64)), "must be no more than 63 bytes"),
        (dns1123_label(&"a".repeat(64)), "must be no more than 63 characters"),
        (path_segment(".."), "may not be '..'"),
        (path_segment("a/b"), "may not contain '/'"),
        (port_number(0), "must be between 1 and 65535, inclusive"),
        (port_name("1"), "must contain at least one letter (a-z)"),
        (port_name("a--b"), "must not contain consecutive hyphens"),
        (config_map_key(".."), "must not be '..'"),
        (config_map_key("..a"), "must not start with '..'"),
        (
            env_var_name("a=b"),
            "a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (ip("1.2.3"), "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        (ip("010.2.3.4"), "must not have leading 0s"),
        (ip("::ffff:1.2.3.4"), "must not be an IPv4-mapped IPv6 address"),
        (ip("FE80::1"), "must be in canonical form (\"fe80::1\")"),
        (cidr("10.0.0.0"), "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        (cidr("10.0.0.0/33"), "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        (cidr("10.0.0.1/24"), "must not have bits set beyond the prefix length"),
        (cidr("10.0.0.0/08"), "must not have leading 0s in IP or prefix length"),
    ] {
        assert_eq!(errors, [message]);
    }
}

#[test]
fn generate_name_may_end_in_a_dash() {
    let none: [&str; 0] = [];
    assert_eq!(NameRule::Subdomain.check_prefix("web-"), none);
    assert_eq!(NameRule::Label.check_prefix("é-").len(), 0, "upstream's mask takes the character before the dash");
    assert_eq!(NameRule::Subdomain.check_prefix("Web-").len(), 1);
    assert_eq!(NameRule::PathSegment.check_prefix("a%").len(), 1);
}

#[test]
fn networks_are_read() {
    assert_eq!(parse_cidr("10.1.2.0/24").map(|(ip, bits)| (ip.to_string(), bits)), Some(("10.1.2.0".into(), 24)));
    let none: [&str; 0] = [];
    for ok in ["0.0.0.0/0", "10.96.0.0/12", "2001:db8::/32", "::/0", "10.0.0.1/32"] {
        assert_eq!(cidr(ok), none, "{ok}");
    }
}
