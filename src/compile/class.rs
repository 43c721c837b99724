//! Whether an Ingress is ours to serve.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use super::view::View;
use super::{Kind, Object, ObjectKey, Options};
use crate::quote::Quoted;

/// The way to name a class before `spec.ingressClassName` existed.
pub(super) const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks the class of Ingresses that name none.
pub(super) const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// Whose an Ingress is.
pub(super) enum Owner<'a> {
    /// Another controller's; the class that it names, if it names one.
    Other(Option<String>),
    /// Ours, by this class if it exists.
    Us(Option<&'a IngressClass>),
    /// It names a class that does not exist.
    Unknown(String),
}

/// The field wins over the annotation; an Ingress with neither belongs to the default class.
pub(super) fn owner<'a>(view: &mut View<'a>, options: &Options, ingress: &Ingress) -> Owner<'a> {
    let class_name = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let is_adopted = |name: &str| options.adopted_classes.iter().any(|adopted| adopted == name);
    if let Some(name) = class_name.filter(|name| !name.is_empty()) {
        if is_adopted(name) {
            // Parameters of another controller's class are not for us.
            return Owner::Us(our_class(view, options, name));
        }
        return match view.object(&ObjectKey::new(Kind::IngressClass, "", name)) {
            Some(Object::IngressClass(class)) if is_ours(class, options) => Owner::Us(Some(class)),
            Some(_) => Owner::Other(Some(name.to_owned())),
            // Whoever writes manifests into a directory rarely writes the IngressClass as well.
            None if options.watch_without_class && name == options.ingress_class => Owner::Us(None),
            None => Owner::Unknown(name.to_owned()),
        };
    }
    let annotations = ingress.metadata.annotations.as_ref();
    if let Some(name) = annotations.and_then(|annotations| annotations.get(CLASS_ANNOTATION)) {
        if *name != options.ingress_class && !is_adopted(name) {
            return Owner::Other(Some(name.clone()));
        }
        // The annotation is older than the object, which may exist all the same.
        return Owner::Us(our_class(view, options, name));
    }
    let is_default = |class: &IngressClass| {
        let mark = class.metadata.annotations.as_ref().and_then(|marks| marks.get(DEFAULT_CLASS_ANNOTATION));
        let is_served = is_ours(class, options) || class.metadata.name.as_deref().is_some_and(is_adopted);
        mark.is_some_and(|mark| mark == "true") && is_served
    };
    match view.classes().find(|class| is_default(class)) {
        Some(class) => Owner::Us(is_ours(class, options).then_some(class)),
        None if options.watch_without_class => Owner::Us(None),
        None => Owner::Other(None),
    }
}

/// The TlsPolicy that the parameters of a class name, or what is wrong with them.
pub(super) fn policy(class: &IngressClass) -> Option<Result<ObjectKey, String>> {
    let parameters = class.spec.as_ref()?.parameters.as_ref()?;
    let group = parameters.api_group.as_deref().unwrap_or_default();
    let namespace = parameters.namespace.as_deref().unwrap_or_default();
    Some(if (group, parameters.kind.as_str()) != ("handfast.dev", "TlsPolicy") {
        Err(format!(
            "they name {} {}, and only a TlsPolicy of handfast.dev is supported",
            Quoted(group),
            Quoted(&parameters.kind)
        ))
    } else if namespace.is_empty() {
        Err("they name no namespace: write scope: Namespace and the namespace of the TlsPolicy".to_owned())
    } else {
        Ok(ObjectKey::new(Kind::TlsPolicy, namespace, &parameters.name))
    })
}

/// The class of this name, if it exists and belongs to this controller.
fn our_class<'a>(view: &mut View<'a>, options: &Options, name: &str) -> Option<&'a IngressClass> {
    match view.object(&ObjectKey::new(Kind::IngressClass, "", name)) {
        Some(Object::IngressClass(class)) if is_ours(class, options) => Some(class),
        Some(_) | None => None,
    }
}

fn is_ours(class: &IngressClass, options: &Options) -> bool {
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(options.controller.as_str())
}
