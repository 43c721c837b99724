//! Paths that are written as patterns: regular expressions of ingress-nginx, and wildcards of other controllers.
//!
//! `path as written ──▶ the part before the pattern, and the plain path that was probably meant`
//!
//! Patterns are not supported. Where an annotation asks for them, routes are closed at the literal beginning of their paths.
//! Without such an annotation a path is compared as it is written, so a pattern matches no request: that is reported,
//! with the plain path that comes closest.

/// What to write in place of a path that is written as a pattern; `None` if there is no pattern in it.
pub(super) fn meant(path: &str) -> Option<String> {
    // How nginx begins a location that is a regular expression, with or without its modifier.
    let pattern = path.trim_start_matches(['^', '~', '*', ' ']);
    let is_marked = pattern.len() < path.len();
    let plain = |path: &str| if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    let is_plain = |path: &str| !path.contains(PATTERN);
    let unended = pattern.strip_suffix('$').unwrap_or(pattern);
    if let Some(base) = REST.iter().find_map(|rest| unended.strip_suffix(rest)).filter(|base| is_plain(base)) {
        let base = base.trim_end_matches('/');
        return Some(match base {
            "" => "to take all paths, write path: / with pathType: Prefix".to_owned(),
            _ => format!("to take {base} and everything below it, write path: {base} with pathType: Prefix"),
        });
    }
    if unended.len() < pattern.len() && is_plain(unended) {
        return Some(format!("write path: {} with pathType: Exact", plain(unended)));
    }
    let Some(begins) = pattern.find(PATTERN) else {
        return (is_marked && pattern.starts_with('/')).then(|| format!("write path: {pattern} with pathType: Prefix"));
    };
    // These alone are more often part of a name, or the beginning of a query.
    if pattern.matches(PATTERN).all(|mark| matches!(mark, "(" | ")" | "+" | "?")) {
        return None;
    }
    let parent = plain(pattern[..begins].rsplit_once('/').map_or("", |(parent, _)| parent));
    Some(format!(
        "write the paths one by one, or path: {parent} with pathType: Prefix, which takes everything below {parent}"
    ))
}

/// Characters that are part of a pattern wherever they stand.
const PATTERN: [char; 12] = ['(', ')', '[', ']', '{', '}', '*', '+', '?', '^', '|', '\\'];

/// What stands for the rest of a path, the longest first.
const REST: [&str; 15] = [
    "(/|$)(.*)",
    "(/|$).*",
    "(/.*)?",
    "/?(.*)",
    "/(.*)",
    "/(.+)",
    "/?.*",
    "(.*)",
    "(.+)",
    "/**",
    "/.*",
    "/.+",
    ".*",
    "/*",
    "*",
];

/// The literal beginning of a path that is a regular expression.
pub(super) enum Literal<'a> {
    /// The pattern may go on within a segment: `/api/v.*` matches below `/api`, and `/api/v` among others.
    Partial {
        /// The whole segments before it.
        parent: &'a str,
        /// With the beginning of the segment.
        partial: &'a str,
    },
    /// The pattern begins behind whole segments: `/api(/|$)(.*)`.
    Segments(&'a str),
    /// There is no pattern in it.
    Whole,
}

/// Where the pattern in a path begins.
pub(super) fn literal(path: &str) -> Literal<'_> {
    let bytes = path.as_bytes();
    let repeats = |at: usize| bytes.get(at).is_some_and(|byte| b"*+?{".contains(byte));
    // A dot that is not repeated stands for itself among others; paths are full of them.
    let is_meta = |at: usize, byte: u8| b"()[]{}*+?^$|\\".contains(&byte) || (byte == b'.' && repeats(at + 1));
    let Some(mut end) = bytes.iter().enumerate().find(|(at, byte)| is_meta(*at, **byte)).map(|(at, _)| at) else {
        return Literal::Whole;
    };
    // A repeated character may be missing.
    while repeats(end) && end > 0 {
        end -= 1;
        while !path.is_char_boundary(end) {
            end -= 1;
        }
    }
    let (head, rest) = path.split_at(end);
    let segment_ends = head.ends_with('/') || ["(/", "$", "/?", "/*"].iter().any(|next| rest.starts_with(next));
    if segment_ends && !has_alternatives(rest) {
        return Literal::Segments(if head.is_empty() { "/" } else { head });
    }
    let parent = head.rfind('/').map_or("/", |at| &head[..=at]);
    Literal::Partial { parent, partial: if head.is_empty() { "/" } else { head } }
}

/// True if `|` stands outside of all parentheses: then the beginning of the pattern is not the beginning of all that it
/// matches.
fn has_alternatives(pattern: &str) -> bool {
    let mut depth = 0_i32;
    pattern.bytes().any(|byte| {
        depth += i32::from(byte == b'(') - i32::from(byte == b')');
        byte == b'|' && depth <= 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_closed_where_it_begins() {
        let rows = [
            ("/api", "whole"),
            ("/file.js", "whole"),
            ("/.well-known/x", "whole"),
            ("/api(/|$)(.*)", "/api"),
            ("/api/(.*)", "/api/"),
            ("/api/?(.*)", "/api"),
            ("/api/v1$", "/api/v1"),
            ("/(.*)", "/"),
            ("(.*)", "/ and /"),
            ("/api/(v1|v2)/x", "/api/"),
            ("/api.*", "/ and /api"),
            ("/api/v[0-9]+/users", "/api/ and /api/v"),
            ("/shops?/x", "/ and /shop"),
            ("/a|/b", "/ and /a"),
            ("/ä?x", "/"),
        ];
        for (path, expected) in rows {
            let found = match literal(path) {
                Literal::Whole => "whole".to_owned(),
                Literal::Segments(text) => text.to_owned(),
                Literal::Partial { parent, partial } => format!("{parent} and {partial}"),
            };
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn the_plain_path_that_was_meant_is_told() {
        let below =
            |path: &str| format!("to take {path} and everything below it, write path: {path} with pathType: Prefix");
        let rows = [
            ("/*", "to take all paths, write path: / with pathType: Prefix".to_owned()),
            ("/(.*)", "to take all paths, write path: / with pathType: Prefix".to_owned()),
            ("/.*", "to take all paths, write path: / with pathType: Prefix".to_owned()),
            ("/api/*", below("/api")),
            ("/api*", below("/api")),
            ("/api/**", below("/api")),
            ("/api(/|$)(.*)", below("/api")),
            ("/api/?(.*)", below("/api")),
            ("/api(/.*)?$", below("/api")),
            ("^/api/v1/.+$", below("/api/v1")),
            ("~* ^/api/(.*)", below("/api")),
            ("/robots.txt$", "write path: /robots.txt with pathType: Exact".to_owned()),
            ("^/api", "write path: /api with pathType: Prefix".to_owned()),
        ];
        for (path, expected) in rows {
            assert_eq!(meant(path).as_deref(), Some(&*expected), "{path}");
        }
        for (path, parent) in [("/users/{id}/x", "/users"), ("/(a|b)/x", "/"), ("/v[0-9]+/x", "/"), ("/i/*.png", "/i")]
        {
            let meant = meant(path).unwrap();
            assert!(meant.contains("one by one") && meant.ends_with(&format!("below {parent}")), "{path}: {meant}");
        }
        for path in ["/", "/api", "/file.js", "/c++", "/search?q=1", "/x(1)", "relative", ""] {
            assert_eq!(meant(path), None, "{path}");
        }
    }
}
