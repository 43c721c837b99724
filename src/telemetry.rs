//! The process's own log: structured lines on standard error. The access log is a target of its own.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// The target of lines that no filter leaves out.
pub const AUDIT: &str = "handfast::audit";

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// A filter that cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum FilterError {
    /// A directive without a target that names no level.
    #[error("{0:?} is no level: off, error, warn, info, debug or trace")]
    NoLevel(String),
    /// Anything else.
    #[error(transparent)]
    Directive(#[from] ParseError),
}

/// Starts logging. `filter` is a level (`info`) or a list of `target=level` directives. A second call changes nothing.
pub fn start(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let filter = parse(filter)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that cannot be written is not worth a panic: its reader is gone (`2>&1 | head`), and serving goes on.
        .log_internal_errors(false);
    // Only a second call can fail, in tests and in the demo.
    let _ = match format {
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            use std::io::IsTerminal;
            subscriber.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
    };
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    // An empty variable is a chart's way to say nothing, not a wish for silence.
    let filter = if filter.trim().is_empty() { "info" } else { filter };
    // The library takes any word for a target: a level with a typing error would silence everything else.
    let mut words = filter.split(',').filter(|word| !word.is_empty() && !word.contains(['=', '[', ']']));
    if let Some(word) = words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(FilterError::NoLevel(word.to_owned()));
    }
    let mut parsed = EnvFilter::builder().parse(filter)?;
    // What its watches meet is said by us, once; its own lines would repeat it for each attempt.
    for target in ["kube_client", "kube_runtime", "tower"] {
        if !filter.contains(target) {
            parsed = parsed.add_directive(format!("{target}=error").parse()?);
        }
    }
    // Who had secrets of connections written is said whatever else is wanted.
    Ok(parsed.add_directive(format!("{AUDIT}=info").parse()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What of `say` gets through a filter.
    fn said(filter: &str, say: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(parse(filter).unwrap())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, say);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_library_of_the_cluster_is_silent_unless_it_is_named() {
        for (filter, is_said) in [("info", false), ("debug", false), ("info,kube_client=warn", true)] {
            let text = said(filter, || tracing::warn!(target: "kube_client::client", "eof in poll"));
            assert_eq!(text.contains("eof in poll"), is_said, "{filter}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_not_taken_for_a_target() {
        for filter in ["inof", "info,handfast", "warn,,nonsense=x"] {
            assert!(parse(filter).is_err(), "{filter}");
        }
        for filter in ["", "INFO", "off", "debug,handfast::proxy=trace", "info,handfast[request{host=a}]=debug"] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn no_filter_leaves_out_the_audit() {
        for filter in ["off", "error", "handfast::proxy=debug", "handfast::audit=off"] {
            let text = said(filter, || {
                tracing::info!("said by the rest");
                tracing::warn!(target: AUDIT, "said by the audit");
            });
            assert!(text.contains("said by the audit") && !text.contains("said by the rest"), "{filter}: {text}");
        }
    }
}
