{{/* What the controller may do, and why. Least privilege: a test runs it with exactly this. */}}

{{/* In every namespace that is watched. */}}
{{- define "handfast.rules.namespaced" -}}
# What is served.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [list, watch]
- apiGroups: [handfast.dev]
  resources: [tlspolicies]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# Certificates and keys; other Secrets are read (get) only where something refers to them.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
{{- if not (include "handfast.noStatus" .) }}
# Addresses, conditions and Events.
- apiGroups: [networking.k8s.io]
  resources: [ingresses/status]
  verbs: [patch]
- apiGroups: [handfast.dev]
  resources: [tlspolicies/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
{{- end -}}

{{/* Of the cluster. */}}
{{- define "handfast.rules.cluster" -}}
# Which Ingresses are ours.
- apiGroups: [networking.k8s.io]
  resources: [ingressclasses]
  verbs: [list, watch]
{{- if and .Values.controller.scope.enabled .Values.controller.scope.namespaceSelector }}
# Labels of namespaces, for the selector.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end }}
{{- if and (include "handfast.publishNodes" .) (not (include "handfast.noStatus" .)) }}
# Addresses of the nodes that run a replica.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- end }}
{{- if include "handfast.webhookSelfMade" . }}
# The CA of the webhook's certificate goes into its configuration.
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingwebhookconfigurations]
  resourceNames: [{{ include "handfast.webhook" . | quote }}]
  verbs: [get, patch]
{{- end }}
{{- end -}}

{{/* In the controller's own namespace. */}}
{{- define "handfast.rules.own" -}}
{{- if or .Values.controller.lastGood.enabled (not (include "handfast.noStatus" .)) }}
# Which replica writes. RBAC cannot say of what name something may be created.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "handfast.electionID" . | quote }}]
  verbs: [get, update]
{{- end }}
{{- if and (not (include "handfast.noStatus" .)) (or (include "handfast.publishNodes" .) .Values.controller.updateStatusOnShutdown) }}
# Which other replicas run, and where.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list]
{{- end }}
{{- if .Values.controller.lastGood.enabled }}
# It may fill this Secret, and make none.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ include "handfast.lastGoodSecret" . | quote }}]
  verbs: [get, patch]
{{- end }}
{{- if include "handfast.webhookSelfMade" . }}
# And this one, with the webhook's certificate.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ include "handfast.webhook" . | quote }}]
  verbs: [get, update]
{{- end }}
{{- end -}}

{{/* A role with its binding: `dict "root" $ "kind" "Role" "name" … "namespace" … "rules" text`. */}}
{{- define "handfast.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
{{ include "handfast.metadata" (dict "root" .root "name" .name "namespace" .namespace) }}
rules:
{{ .rules | trim }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
{{ include "handfast.metadata" (dict "root" .root "name" .name "namespace" .namespace) }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name | quote }}
subjects:
- kind: ServiceAccount
  name: {{ include "handfast.serviceAccountName" .root | quote }}
  namespace: {{ include "handfast.namespace" .root | quote }}
{{- end -}}
