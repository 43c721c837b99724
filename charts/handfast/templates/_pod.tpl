{{/* The pods of the Deployment or the DaemonSet. */}}

{{/* Whether the process has to be user 0: ports below 1024 of the node are no other user's. */}}
{{- define "handfast.needsRoot" -}}
{{- if and .Values.controller.hostNetwork (lt (int (include "handfast.port.lowest" .)) 1024) -}}true{{- end -}}
{{- end -}}

{{- define "handfast.user" -}}
{{- $user := .Values.controller.image.runAsUser -}}
{{- if include "handfast.foreignImage" . -}}{{- $user = "" -}}{{- end -}}
{{- if or (kindIs "invalid" $user) (eq (toString $user) "") -}}
{{- ternary 0 65532 (eq (include "handfast.needsRoot" .) "true") -}}
{{- else -}}
{{- $user | int -}}
{{- end -}}
{{- end -}}

{{- define "handfast.group" -}}
{{- if include "handfast.foreignImage" . -}}65532{{- else -}}{{- .Values.controller.image.runAsGroup | int -}}{{- end -}}
{{- end -}}

{{- define "handfast.podSecurityContext" -}}
{{- $user := include "handfast.user" . | int -}}
{{- $lowest := include "handfast.port.lowest" . | int -}}
{{- $context := dict
  "runAsNonRoot" (ne $user 0)
  "runAsUser" $user
  "runAsGroup" (include "handfast.group" . | int)
  "fsGroup" (include "handfast.group" . | int)
  "seccompProfile" .Values.controller.image.seccompProfile
-}}
{{- $sysctls := list -}}
{{- range $name, $value := .Values.controller.sysctls -}}
{{- $sysctls = append $sysctls (dict "name" $name "value" (toString $value)) -}}
{{- end -}}
{{- if and (lt $lowest 1024) (not .Values.controller.hostNetwork) (not (hasKey (default dict .Values.controller.sysctls) "net.ipv4.ip_unprivileged_port_start")) -}}
{{- $sysctls = append $sysctls (dict "name" "net.ipv4.ip_unprivileged_port_start" "value" (toString $lowest)) -}}
{{- end -}}
{{- with $sysctls -}}{{- $_ := set $context "sysctls" . -}}{{- end -}}
{{- toYaml (mergeOverwrite $context (default dict .Values.controller.podSecurityContext)) -}}
{{- end -}}

{{- define "handfast.containerSecurityContext" -}}
{{- $capabilities := dict "drop" (list "ALL") -}}
{{- if include "handfast.needsRoot" . -}}{{- $_ := set $capabilities "add" (list "NET_BIND_SERVICE") -}}{{- end -}}
{{- $context := dict
  "allowPrivilegeEscalation" false
  "readOnlyRootFilesystem" true
  "capabilities" $capabilities
-}}
{{- toYaml (mergeOverwrite $context (default dict .Values.controller.containerSecurityContext)) -}}
{{- end -}}

{{/* A probe; the name `metrics` stands for the port, whatever it is called. */}}
{{- define "handfast.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- if eq (dig "httpGet" "port" "" $probe | toString) "metrics" -}}
{{- $_ := set $probe.httpGet "port" .root.Values.controller.metrics.portName -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{- define "handfast.volumes" -}}
{{- $controller := .Values.controller -}}
{{- $webhook := $controller.admissionWebhooks -}}
{{- if $controller.state.enabled }}
- name: state
  emptyDir:
    {{- with $controller.state.medium }}
    medium: {{ . }}
    {{- end }}
    {{- with $controller.state.sizeLimit }}
    sizeLimit: {{ . }}
    {{- end }}
    {{- if not (or $controller.state.medium $controller.state.sizeLimit) }} {}{{- end }}
{{- end }}
{{- if and $webhook.enabled (not (include "handfast.webhookSelfMade" .)) }}
- name: webhook
  secret:
    secretName: {{ default (include "handfast.webhook" .) $webhook.existingSecret | quote }}
    defaultMode: 0440
{{- end }}
{{- if and $webhook.enabled $webhook.clientCA.configMap }}
- name: webhook-client-ca
  configMap:
    name: {{ $webhook.clientCA.configMap | quote }}
{{- end }}
{{- with $controller.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "handfast.volumeMounts" -}}
{{- $controller := .Values.controller -}}
{{- $webhook := $controller.admissionWebhooks -}}
{{- if $controller.state.enabled }}
- name: state
  mountPath: /var/lib/handfast
{{- end }}
{{- if and $webhook.enabled (not (include "handfast.webhookSelfMade" .)) }}
- name: webhook
  mountPath: /etc/handfast/webhook
  readOnly: true
{{- end }}
{{- if and $webhook.enabled $webhook.clientCA.configMap }}
- name: webhook-client-ca
  mountPath: /etc/handfast/webhook-client-ca
  readOnly: true
{{- end }}
{{- with $controller.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "handfast.podTemplate" -}}
{{- $controller := .Values.controller -}}
metadata:
  labels:
    {{- $labels := mergeOverwrite (deepCopy (default dict .Values.commonLabels)) (default dict $controller.podLabels) (include "handfast.selectorLabels" . | fromYaml) }}
    {{- toYaml $labels | nindent 4 }}
  {{- with $controller.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "handfast.serviceAccountName" . | quote }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
  # A Service named handfast-workers would set HANDFAST_WORKERS_… for every pod of the namespace.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int $controller.terminationGracePeriodSeconds }}
  dnsPolicy: {{ default (ternary "ClusterFirstWithHostNet" "ClusterFirst" $controller.hostNetwork) $controller.dnsPolicy }}
  {{- with $controller.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $controller.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with $controller.runtimeClassName }}
  runtimeClassName: {{ . | quote }}
  {{- end }}
  securityContext:
    {{- include "handfast.podSecurityContext" . | nindent 4 }}
  {{- with $controller.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
  - name: {{ $controller.containerName | quote }}
    image: {{ include "handfast.image" . | quote }}
    imagePullPolicy: {{ $controller.image.pullPolicy }}
    args:
    - run
    {{- range $name, $value := include "handfast.args" . | fromYaml }}
    - {{ ternary (printf "--%s" $name) (printf "--%s=%s" $name (toString $value)) (eq (toString $value) "") | quote }}
    {{- end }}
    env:
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    - name: POD_NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
    - name: POD_IPS
      valueFrom:
        fieldRef:
          fieldPath: status.podIPs
    {{- if dig "limits" "cpu" "" (default dict $controller.resources) }}
    - name: HANDFAST_WORKERS
      valueFrom:
        resourceFieldRef:
          containerName: {{ $controller.containerName | quote }}
          resource: limits.cpu
          divisor: "1"
    {{- end }}
    {{- with $controller.extraEnvs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    ports:
    - name: http
      containerPort: {{ include "handfast.port.http" . }}
      protocol: TCP
      {{- if $controller.hostPort.enabled }}
      hostPort: {{ int $controller.hostPort.ports.http }}
      {{- else if $controller.hostNetwork }}
      hostPort: {{ include "handfast.port.http" . }}
      {{- end }}
    - name: https
      containerPort: {{ include "handfast.port.https" . }}
      protocol: TCP
      {{- if $controller.hostPort.enabled }}
      hostPort: {{ int $controller.hostPort.ports.https }}
      {{- else if $controller.hostNetwork }}
      hostPort: {{ include "handfast.port.https" . }}
      {{- end }}
    - name: {{ $controller.metrics.portName | quote }}
      containerPort: {{ int $controller.metrics.port }}
      protocol: TCP
      {{- if $controller.hostNetwork }}
      hostPort: {{ int $controller.metrics.port }}
      {{- end }}
    {{- if $controller.admissionWebhooks.enabled }}
    - name: webhook
      containerPort: {{ int $controller.admissionWebhooks.port }}
      protocol: TCP
      {{- if $controller.hostNetwork }}
      hostPort: {{ int $controller.admissionWebhooks.port }}
      {{- end }}
    {{- end }}
    {{- with $controller.startupProbe }}
    startupProbe:
      {{- include "handfast.probe" (dict "root" $ "probe" .) | nindent 6 }}
    {{- end }}
    {{- with $controller.livenessProbe }}
    livenessProbe:
      {{- include "handfast.probe" (dict "root" $ "probe" .) | nindent 6 }}
    {{- end }}
    {{- with $controller.readinessProbe }}
    {{- $readiness := deepCopy . }}
    {{- if include "handfast.readinessByHealth" $ }}{{- $_ := set $readiness.httpGet "path" "/readyz" }}{{- end }}
    readinessProbe:
      {{- include "handfast.probe" (dict "root" $ "probe" $readiness) | nindent 6 }}
    {{- end }}
    {{- if and $controller.lifecycle (not (include "handfast.foreignLifecycle" .)) }}
    lifecycle:
      {{- toYaml $controller.lifecycle | nindent 6 }}
    {{- end }}
    resources:
      {{- toYaml (default dict $controller.resources) | nindent 6 }}
    securityContext:
      {{- include "handfast.containerSecurityContext" . | nindent 6 }}
    {{- with include "handfast.volumeMounts" . | trim }}
    volumeMounts:
    {{- . | nindent 4 }}
    {{- end }}
  {{- with $controller.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with include "handfast.volumes" . | trim }}
  volumes:
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $controller.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.topologySpreadConstraints }}
  topologySpreadConstraints:
  {{- range . }}
  {{- $selector := dict "matchLabels" (include "handfast.selectorLabels" $ | fromYaml) }}
  {{- toYaml (list (merge (deepCopy .) (dict "labelSelector" $selector))) | nindent 2 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/* Whether there is a NetworkPolicy: where nobody says so, wherever it closes nothing but the admin port. */}}
{{- define "handfast.networkPolicy" -}}
{{- $controller := .Values.controller -}}
{{- $wanted := $controller.networkPolicy.enabled -}}
{{- if kindIs "invalid" $wanted -}}
{{- $wanted = not (or $controller.hostNetwork $controller.extraContainers) -}}
{{- range $controller.extraInitContainers -}}
{{- if eq (get . "restartPolicy" | toString) "Always" -}}{{- $wanted = false -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $wanted -}}true{{- end -}}
{{- end -}}
