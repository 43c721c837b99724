//! Whether an Ingress is ours to serve.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use super::view::View;
use super::{Kind, Object, ObjectKey, Options};

/// The way to name a class before `spec.ingressClassName` existed.
pub(super) const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks the class of Ingresses that name none.
pub(super) const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// Whose an Ingress is.
pub(super) enum Owner {
    /// Another controller's; the class that it names, if it names one.
    Other(Option<String>),
    /// Ours.
    Us,
    /// It names a class that does not exist.
    Unknown(String),
}

/// The field wins over the annotation; an Ingress with neither belongs to the default class.
pub(super) fn owner(view: &mut View<'_>, options: &Options, ingress: &Ingress) -> Owner {
    let class_name = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    if let Some(name) = class_name.filter(|name| !name.is_empty()) {
        return match view.object(&ObjectKey::new(Kind::IngressClass, "", name)) {
            Some(Object::IngressClass(class)) if is_ours(class, options) => Owner::Us,
            Some(_) => Owner::Other(Some(name.to_owned())),
            // Whoever writes manifests into a directory rarely writes the IngressClass as well.
            None if options.watch_without_class && name == options.ingress_class => Owner::Us,
            None => Owner::Unknown(name.to_owned()),
        };
    }
    let annotations = ingress.metadata.annotations.as_ref();
    if let Some(name) = annotations.and_then(|annotations| annotations.get(CLASS_ANNOTATION)) {
        return if *name == options.ingress_class { Owner::Us } else { Owner::Other(Some(name.clone())) };
    }
    let is_default = |class: &IngressClass| {
        let mark = class.metadata.annotations.as_ref().and_then(|marks| marks.get(DEFAULT_CLASS_ANNOTATION));
        mark.is_some_and(|mark| mark == "true") && is_ours(class, options)
    };
    if options.watch_without_class || view.classes().any(|class| is_default(class)) {
        Owner::Us
    } else {
        Owner::Other(None)
    }
}

fn is_ours(class: &IngressClass, options: &Options) -> bool {
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(options.controller.as_str())
}
