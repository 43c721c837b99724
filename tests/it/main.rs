//! Integration tests.

mod http_support;
mod proxy_http;
mod smuggling;
mod upstream;
