{{/*
What of the values cannot be (an error, before anything is made), and what of them has no effect (a word in the notes).
Values of ingress-nginx whose absence would open or break something are errors; those about its inner life are notes.
*/}}

{{/* Options of ingress-nginx's controller.config that nobody misses: they are about nginx, or about what it logs. */}}
{{- define "handfast.config.harmless" -}}
^(access-log-.*|http-access-log-path|stream-access-log-path|enable-access-log-for-default-backend|error-log-.*|disable-access-log|skip-access-log-urls|log-format-.*|allow-snippet-annotations|annotations-risk-level|annotation-value-word-blocklist|allow-backend-server-header|client-header-buffer-size|client-body-buffer-size|large-client-header-buffers|disable-ipv6|disable-ipv6-dns|enable-ocsp|http2-.*|use-http2|keep-alive-requests|enable-multi-accept|max-worker-.*|map-hash-bucket-size|nginx-status-.*|server-name-hash-.*|proxy-headers-hash-.*|variables-hash-.*|reuse-port|server-tokens|ssl-dh-param|ssl-session-.*|ssl-buffer-size|proxy-protocol-header-timeout|enable-aio-write|use-gzip|gzip-.*|enable-brotli|brotli-.*|worker-.*|enable-serial-reloads|load-balance|upstream-keepalive-.*|proxy-stream-.*|jaeger-.*|enable-opentelemetry|opentelemetry-.*|otlp-.*|otel-.*|proxy-buffer.*|proxy-busy-buffers-size|proxy-request-buffering|proxy-next-upstream.*|lua-shared-dicts|enable-syslog|syslog-.*|debug-connections|strict-validate-path-type|grpc-buffer-size-kb|generate-request-id|ssl-reject-handshake|bind-address|enable-real-ip|compute-full-forwarded-for|proxy-real-ip-cidr|use-forwarded-headers|retry-non-idempotent|default-type|proxy-add-original-uri-header|limit-.*-status-code|limit-conn-zone-variable)$
{{- end -}}

{{/* Fails where the values cannot be. */}}
{{- define "handfast.check" -}}
{{- $controller := .Values.controller -}}
{{- $scope := $controller.scope -}}
{{- $webhook := $controller.admissionWebhooks -}}
{{- $errors := list -}}

{{- if lt (int (include "handfast.drainSeconds" .)) 0 -}}
{{- $errors = append $errors (printf "controller.terminationGracePeriodSeconds (%d) must be at least 15 more than unreadyDelaySeconds (%d): raise the first or lower the second" (int $controller.terminationGracePeriodSeconds) (int $controller.unreadyDelaySeconds)) -}}
{{- end -}}
{{- $ports := list (include "handfast.port.http" .) (include "handfast.port.https" .) (toString (int $controller.metrics.port)) -}}
{{- if $webhook.enabled -}}{{- $ports = append $ports (toString (int $webhook.port)) -}}{{- end -}}
{{- if ne (len $ports) (len (uniq $ports)) -}}
{{- $errors = append $errors (printf "two listeners have the same port (%s): change controller.containerPort, controller.metrics.port or controller.admissionWebhooks.port" (join ", " $ports)) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "handfast.fullname" .)) -}}
{{- $errors = append $errors (printf "%s is not a valid name of a Service: set fullnameOverride to a letter, letters, digits and hyphens" (include "handfast.fullname" .)) -}}
{{- end -}}
{{- $security := mergeOverwrite (include "handfast.podSecurityContext" . | fromYaml) (include "handfast.containerSecurityContext" . | fromYaml) -}}
{{- if and (include "handfast.needsRoot" .) (ne (int $security.runAsUser) 0) -}}
{{- $errors = append $errors (printf "controller.image.runAsUser: with hostNetwork only user 0 may bind ports below 1024, and this is %d: remove it, raise controller.containerPort, or set controller.hostPort.enabled instead of hostNetwork" (int $security.runAsUser)) -}}
{{- end -}}
{{- if and $controller.service.enabled (not $controller.service.enableHttp) (not $controller.service.enableHttps) -}}
{{- $errors = append $errors "controller.service: enableHttp and enableHttps are both false, and a Service needs a port: set one, or controller.service.enabled to false" -}}
{{- end -}}
{{- if and $controller.autoscaling.enabled (gt (int $controller.autoscaling.minReplicas) (int $controller.autoscaling.maxReplicas)) -}}
{{- $errors = append $errors (printf "controller.autoscaling: minReplicas (%d) is more than maxReplicas (%d): raise the second" (int $controller.autoscaling.minReplicas) (int $controller.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- $deadline := $controller.progressDeadlineSeconds | default 600 | int -}}
{{- if and (eq $controller.kind "Deployment") (le $deadline (int $controller.minReadySeconds)) -}}
{{- $errors = append $errors (printf "controller.minReadySeconds (%d) reaches the deadline of a rollout (%d): raise controller.progressDeadlineSeconds" (int $controller.minReadySeconds) $deadline) -}}
{{- end -}}
{{- if and (include "handfast.wantsBudget" .) (kindIs "invalid" $controller.minAvailable) (kindIs "invalid" $controller.maxUnavailable) -}}
{{- $errors = append $errors "controller.minAvailable and controller.maxUnavailable are both empty: set one, or controller.podDisruptionBudget.enabled to false" -}}
{{- end -}}
{{- if and (eq $controller.kind "DaemonSet") $controller.autoscaling.enabled -}}
{{- $errors = append $errors "controller.autoscaling: a DaemonSet has as many replicas as nodes: switch it off" -}}
{{- end -}}
{{- if and $controller.hostPort.enabled $controller.hostNetwork (or (ne (int $controller.hostPort.ports.http) (int (include "handfast.port.http" .))) (ne (int $controller.hostPort.ports.https) (int (include "handfast.port.https" .)))) -}}
{{- $errors = append $errors "controller.hostPort: with hostNetwork the ports of the node are those of the container: set controller.containerPort to the same, or leave hostPort out" -}}
{{- end -}}
{{- if and .Values.rbac.scope (or (not $scope.enabled) $scope.namespaceSelector) -}}
{{- $errors = append $errors "rbac.scope: Roles alone need namespaces by name: set controller.scope.enabled and controller.scope.namespace, without a selector" -}}
{{- end -}}
{{- if and .Values.rbac.scope (include "handfast.webhookSelfMade" .) -}}
{{- $errors = append $errors "rbac.scope: the controller may not put its CA into the webhook's configuration then: set controller.admissionWebhooks.certManager.enabled or existingSecret" -}}
{{- end -}}
{{- if and .Values.rbac.scope (include "handfast.publishNodes" .) -}}
{{- $errors = append $errors "rbac.scope: addresses of nodes cannot be read then: set controller.publishStatusAddress, or controller.publishNodeAddresses to false" -}}
{{- end -}}
{{- if and (eq ($controller.publishNodeAddresses | toString) "true") $controller.publishService.pathOverride -}}
{{- $errors = append $errors "controller.publishNodeAddresses: not together with controller.publishService.pathOverride" -}}
{{- end -}}
{{- with include "handfast.namespaces" . | fromJsonArray -}}
{{- $namespaces := . -}}
{{- $args := include "handfast.args" $ | fromYaml -}}
{{- range $name := list "default-tls-secret" "default-tls-policy" "default-shadow-tls-policy" -}}
{{- with get $args $name -}}
{{- if not (has (splitList "/" . | first) $namespaces) -}}
{{- $errors = append $errors (printf "controller.%s: %s is outside of controller.scope, so it is not watched: add its namespace to controller.scope.namespaces" (camelcase (replace "-" "_" $name) | untitle) .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $webhook.existingSecret $webhook.certManager.enabled -}}
{{- $errors = append $errors "controller.admissionWebhooks: existingSecret or certManager, not both" -}}
{{- end -}}

{{- $flags := include "handfast.flags" . | fromYamlArray -}}
{{- $meaningless := include "handfast.flags.meaningless" . | fromYamlArray -}}
{{- $translated := (include "handfast.translations" . | fromYaml).args -}}
{{- $hints := dict
  "http-port" "set controller.containerPort.http"
  "https-port" "set controller.containerPort.https"
  "healthz-port" "set controller.metrics.port"
  "enable-ssl-passthrough" "not supported: routes with the annotation ssl-passthrough are not passed through"
  "enable-ssl-chain-completion" "a TlsPolicy says it: chain.complete"
  "default-backend-service" "make an Ingress with a defaultBackend"
  "configmap" "there is none: options are values of this chart"
  "tcp-services-configmap" "TCP services are not supported"
  "udp-services-configmap" "UDP services are not supported"
  "validating-webhook" "set controller.admissionWebhooks.enabled"
  "disable-leader-election" "set controller.noStatus, if nothing is to be written"
  "disable-catch-all" "not supported"
-}}
{{- $owned := dict
  "source" "this chart is for a cluster"
  "http" "set controller.containerPort.http or controller.bindAddress"
  "https" "set controller.containerPort.https or controller.bindAddress"
  "admin" "set controller.metrics.port or controller.bindAddress"
  "watch-namespace" "set controller.scope"
  "watch-namespace-selector" "set controller.scope.namespaceSelector"
  "no-status" "set controller.noStatus"
  "publish-service" "set controller.publishService.pathOverride"
  "publish-node-addresses" "set controller.publishNodeAddresses"
  "update-status-on-shutdown" "set controller.updateStatusOnShutdown"
  "election-id" "set controller.electionID"
  "last-good-secret" "set controller.lastGood.enabled"
  "state-dir" "set controller.state.enabled"
  "unready-delay" "set controller.unreadyDelaySeconds"
  "drain-timeout" "set controller.terminationGracePeriodSeconds"
  "webhook-addr" "set controller.admissionWebhooks.enabled"
  "webhook-secret" "set controller.admissionWebhooks.enabled"
  "webhook-service" "set controller.admissionWebhooks.enabled"
  "webhook-configuration" "set controller.admissionWebhooks.enabled"
  "webhook-cert" "set controller.admissionWebhooks.existingSecret"
  "webhook-key" "set controller.admissionWebhooks.existingSecret"
  "webhook-client-ca" "set controller.admissionWebhooks.clientCA.configMap"
-}}
{{- range $name, $value := $controller.extraArgs -}}
{{- if hasKey $owned $name -}}
{{- $errors = append $errors (printf "controller.extraArgs.%s: other objects depend on this option: %s" $name (get $owned $name)) -}}
{{- end -}}
{{- if not (or (has $name $flags) (has $name $meaningless) (hasKey $translated $name)) -}}
{{- $errors = append $errors (printf "controller.extraArgs.%s: `handfast run` has no such option: %s" $name (get $hints $name | default "see `handfast run --help`")) -}}
{{- end -}}
{{- end -}}

{{- $translations := include "handfast.translations" . | fromYaml -}}
{{- $networks := get (default dict $controller.config) "proxy-real-ip-cidr" | toString | nospace -}}
{{- if and (eq (get (default dict $controller.config) "use-proxy-protocol" | toString) "true") (not (has $networks (list "" "0.0.0.0/0" "0.0.0.0/0,::/0"))) -}}
{{- $errors = append $errors (printf "controller.config.proxy-real-ip-cidr: the PROXY protocol is trusted from every peer, not only from %s: let only those reach the ports (controller.service.loadBalancerSourceRanges, a NetworkPolicy), then set controller.proxyProtocol in place of config.use-proxy-protocol" $networks) -}}
{{- end -}}
{{- range $key, $value := default dict $controller.config -}}
{{- if not (or (hasKey $translations.config $key) (hasKey $translations.seconds $key) (regexMatch (include "handfast.config.harmless" $) $key)) -}}
{{- if regexMatch "^(ssl-(protocols|ciphers|ecdh-curve|prefer-server-ciphers)|hsts.*)$" $key -}}
{{- $errors = append $errors (printf "controller.config.%s: write it into a TlsPolicy and name that in controller.defaultTlsPolicy" $key) -}}
{{- else -}}
{{- $errors = append $errors (printf "controller.config.%s: there is no such option for all hosts: use the annotation of the Ingresses if docs/annotations.md has it, and remove the key" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.tcp -}}{{- $errors = append $errors "tcp: TCP services are not supported: keep another proxy for them, and remove the key" -}}{{- end -}}
{{- if .Values.udp -}}{{- $errors = append $errors "udp: UDP services are not supported: keep another proxy for them, and remove the key" -}}{{- end -}}
{{- if (default dict .Values.defaultBackend).enabled -}}
{{- $errors = append $errors "defaultBackend.enabled: deploy it yourself and name its Service in the defaultBackend of an Ingress" -}}
{{- end -}}
{{- if (default dict $controller.keda).enabled -}}
{{- $errors = append $errors "controller.keda.enabled: write the ScaledObject into extraObjects, or use controller.autoscaling" -}}
{{- end -}}
{{- if (default dict $controller.customTemplate).configMapName -}}
{{- $errors = append $errors "controller.customTemplate: there is no template: remove the key" -}}
{{- end -}}
{{- range $key := list "addHeaders" "proxySetHeaders" "extraModules" -}}
{{- if get $controller $key -}}{{- $errors = append $errors (printf "controller.%s is not supported: remove the key if you do not need it" $key) -}}{{- end -}}
{{- end -}}
{{- with $controller.ingressClassResource.aliases -}}
{{- $errors = append $errors (printf "controller.ingressClassResource.aliases: name them in controller.adoptClass: [%s]" (join ", " .)) -}}
{{- end -}}

{{- $errors = concat $errors (include "handfast.healthChecks" . | fromJson).errors -}}

{{- with $errors -}}
{{- fail (printf "\n\nThese values do not work:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{/*
Whether load balancers that are told by annotations to ask our ports would get a good answer: errors and notices, as JSON.
/healthz is answered over HTTP where no host and no rule is asked for, and over HTTPS if there is a default certificate:
load balancers send no server name. With externalTrafficPolicy Local they ask kube-proxy, and an annotation may name
another port; both are no concern of ours.
*/}}
{{- define "handfast.healthChecks" -}}
{{- $outside := .Values.controller.service -}}
{{- $args := include "handfast.args" . | fromYaml -}}
{{- $check := "(health-?check|health-probe|linode-loadbalancer-check)[-_](.*[-_])?" -}}
{{- $errors := list -}}
{{- $notices := list -}}
{{- $services := dict -}}
{{- if and $outside.enabled $outside.external.enabled -}}{{- $_ := set $services "controller.service" $outside -}}{{- end -}}
{{- if and $outside.enabled $outside.internal.enabled -}}{{- $_ := set $services "controller.service.internal" $outside.internal -}}{{- end -}}
{{- range $name, $service := $services -}}
{{- $paths := dict -}}
{{- $protocols := dict -}}
{{- $azure := false -}}
{{- $elsewhere := eq (toString $service.externalTrafficPolicy) "Local" -}}
{{- range $key, $value := default dict $service.annotations -}}
{{- if regexMatch (printf "%s(path|uri)$" $check) $key -}}{{- $_ := set $paths $key (splitList "?" $value | first) -}}{{- end -}}
{{- if regexMatch (printf "%s(protocol|type|mode)$" $check) $key -}}{{- $_ := set $protocols $key (lower $value) -}}{{- end -}}
{{- if and (regexMatch (printf "%sport$" $check) $key) (ne $value "traffic-port") -}}{{- $elsewhere = true -}}{{- end -}}
{{- if regexMatch "azure-load-balancer|health-probe" $key -}}{{- $azure = true -}}{{- end -}}
{{- end -}}
{{- if not $elsewhere -}}
{{- $byAppProtocol := and $azure $service.appProtocol -}}
{{- if and $byAppProtocol (not $paths) -}}{{- $_ := set $paths "service.beta.kubernetes.io/azure-load-balancer-health-probe-request-path (left out)" "/" -}}{{- end -}}
{{- range $key, $path := $paths -}}
{{- if ne $path "/healthz" -}}
{{- $notices = append $notices (printf "%s.annotations, %s: the load balancer asks for %s. Unless a rule without a host has it, that answers 404, and no replica gets traffic: let it ask for /healthz." $name $key $path) -}}
{{- end -}}
{{- end -}}
{{- $port := get (default dict $service.ports) "https" | default $outside.ports.https | int -}}
{{- $target := get (default dict $service.targetPorts) "https" | default $outside.targetPorts.https | toString -}}
{{- if and $outside.enableHttps (not (has $target (list "http" (include "handfast.port.http" $)))) -}}
{{- $ofPort := printf "port_%d_" $port -}}
{{- $override := printf "service.beta.kubernetes.io/%shealth-probe_protocol" $ofPort -}}
{{- $unprobed := eq (get (default dict $service.annotations) (printf "service.beta.kubernetes.io/%sno_probe_rule" $ofPort)) "true" -}}
{{- $over := "" -}}
{{- if and $byAppProtocol (not (hasKey $protocols $override)) (not $unprobed) -}}{{- $over = "appProtocol" -}}{{- end -}}
{{- range $key, $protocol := $protocols -}}
{{- $isOfAnother := and (regexMatch "/port_[0-9]+_" $key) (ne $key $override) -}}
{{- $isOverruled := and $byAppProtocol (ne $key $override) -}}
{{- if not (or $isOfAnother $isOverruled $unprobed) -}}
{{- if eq $protocol "https" -}}{{- $over = printf "annotations, %s" $key -}}{{- end -}}
{{- if eq $protocol "http" -}}
{{- $notices = append $notices (printf "%s.annotations, %s: the load balancer asks over HTTP. If it asks the port for HTTPS as well, that answers 400: have it ask over TCP, or only the port for HTTP." $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $over (not (get $args "default-tls-secret")) -}}
{{- $errors = append $errors (printf "%s.%s: the load balancer asks over HTTPS and sends no server name. Without a default certificate such handshakes are refused, and no replica gets traffic: set controller.defaultTlsSecret, or have it ask over TCP%s" $name $over (ternary (printf " (annotation %s: tcp)" $override) "" $azure)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "errors" $errors "notices" $notices | toJson -}}
{{- end -}}

{{/* Values of ingress-nginx that have no effect, each with its default there: who has that expects nothing of it. */}}
{{- define "handfast.ignored" -}}
controller.admissionWebhooks.certManager.admissionCert.revisionHistoryLimit:
controller.admissionWebhooks.certManager.rootCert.revisionHistoryLimit:
controller.admissionWebhooks.certificate: /usr/local/certificates/cert
controller.admissionWebhooks.createSecretJob:
controller.admissionWebhooks.existingPsp:
controller.admissionWebhooks.extraEnvs:
controller.admissionWebhooks.key: /usr/local/certificates/key
controller.admissionWebhooks.name: admission
controller.admissionWebhooks.networkPolicyEnabled: false
controller.admissionWebhooks.patch:
controller.admissionWebhooks.patchWebhookJob:
controller.admissionWebhooks.service.clusterIP:
controller.admissionWebhooks.service.externalIPs:
controller.admissionWebhooks.service.labels:
controller.admissionWebhooks.service.loadBalancerIP:
controller.admissionWebhooks.service.loadBalancerSourceRanges:
controller.admissionWebhooks.service.type: ClusterIP
controller.configAnnotations:
controller.configMapNamespace:
controller.disableLeaderElection: false
controller.enableAnnotationValidations: true
controller.enableMimalloc: true
controller.enableTopologyAwareRouting: false
controller.healthCheckHost:
controller.healthCheckPath: /healthz
controller.hostname:
controller.image.allowPrivilegeEscalation: false
controller.image.chroot: false
controller.image.digestChroot:
controller.image.readOnlyRootFilesystem: false
controller.image.runAsNonRoot: true
controller.maxmindLicenseKey:
controller.metrics.service.clusterIP:
controller.metrics.service.externalIPs:
controller.metrics.service.externalTrafficPolicy:
controller.metrics.service.loadBalancerIP:
controller.metrics.service.loadBalancerSourceRanges:
controller.metrics.service.nodePort:
controller.name: controller
controller.opentelemetry:
controller.resizePolicy:
controller.service.externalLabels:
controller.service.internal.nodePorts.tcp:
controller.service.internal.nodePorts.udp:
controller.service.nodePorts.tcp:
controller.service.nodePorts.udp:
controller.shareProcessNamespace: false
controller.tcp:
controller.udp:
podSecurityPolicy:
portNamePrefix:
{{- end -}}

{{/* What of the values has no effect, or another one than with ingress-nginx; a JSON list. */}}
{{- define "handfast.notices" -}}
{{- $controller := .Values.controller -}}
{{- $webhook := $controller.admissionWebhooks -}}
{{- $notices := list -}}
{{- $args := include "handfast.args" . | fromYaml -}}
{{- if include "handfast.foreignImage" . -}}
{{- $notices = append $notices (printf "controller.image names the image of ingress-nginx. The chart uses %s instead." (include "handfast.image" .)) -}}
{{- end -}}
{{- if and (include "handfast.ofIngressNginx" .) (not (include "handfast.servesNginx" .)) -}}
{{- $notices = append $notices (printf "They are of ingress-nginx and name no class, and its default is nginx. Ingresses of class nginx are not adopted: served are those of class %s. Set controller.adoptClass to [nginx]." $controller.ingressClassResource.name) -}}
{{- end -}}
{{- if hasPrefix "k8s.io/" $controller.ingressClassResource.controllerValue -}}
{{- $notices = append $notices (printf "controller.ingressClassResource.controllerValue is that of ingress-nginx (%s). While it still runs, both write the status of Ingresses: set controller.noStatus until you have moved." $controller.ingressClassResource.controllerValue) -}}
{{- end -}}
{{- if include "handfast.readinessByHealth" . -}}
{{- $notices = append $notices "controller.readinessProbe asks /healthz; used is /readyz, which is true once every host is served." -}}
{{- end -}}
{{- if include "handfast.foreignLifecycle" . -}}
{{- $notices = append $notices "controller.lifecycle runs /wait-shutdown of ingress-nginx; left out, because the process itself drains." -}}
{{- end -}}
{{- $translations := include "handfast.translations" . | fromYaml -}}
{{- range $key, $value := default dict $controller.config -}}
{{- if or (hasKey $translations.config $key) (hasKey $translations.seconds $key) -}}
{{- else if eq $key "use-forwarded-headers" -}}
{{- if and (eq (toString $value) "true") (not $controller.trustedProxies) (not (get $controller.config "proxy-real-ip-cidr")) -}}
{{- $notices = append $notices "controller.config.use-forwarded-headers without proxy-real-ip-cidr: headers of everybody are believed. Set controller.trustedProxies." -}}
{{- end -}}
{{- else if not (or (and (eq $key "proxy-real-ip-cidr") (has (toString $value) (list (get $args "trusted-proxies") "0.0.0.0/0"))) (and (eq $key "worker-processes") (regexMatch "^[0-9]+$" (toString $value)))) -}}
{{- $notices = append $notices (printf "controller.config.%s has no effect." $key) -}}
{{- end -}}
{{- end -}}
{{- $meaningless := include "handfast.flags.meaningless" . | fromYamlArray -}}
{{- range $name, $value := $controller.extraArgs -}}
{{- if and (has $name $meaningless) (ne $name "update-status") -}}{{- $notices = append $notices (printf "controller.extraArgs.%s has no effect." $name) -}}{{- end -}}
{{- end -}}
{{- range $path, $default := include "handfast.ignored" . | fromYaml -}}
{{- $value := $.Values -}}
{{- range splitList "." $path -}}{{- $value = get (ternary $value dict (kindIs "map" $value)) . -}}{{- end -}}
{{- if and (or $value (kindIs "bool" $value)) (ne (toJson $value) (toJson $default)) -}}
{{- $notices = append $notices (printf "%s has no effect." $path) -}}
{{- end -}}
{{- end -}}
{{- if and $webhook.enabled $controller.scope.enabled $controller.scope.namespaceSelector (not $webhook.namespaceSelector) -}}
{{- $notices = append $notices "controller.admissionWebhooks.namespaceSelector is not set: with controller.scope.namespaceSelector objects of all namespaces are judged." -}}
{{- end -}}
{{- if and $controller.hostNetwork (include "handfast.networkPolicy" .) -}}
{{- $notices = append $notices "controller.networkPolicy has no effect with hostNetwork: policies do not apply to the network of the node." -}}
{{- end -}}
{{- if $controller.allowSnippetAnnotations -}}
{{- $notices = append $notices "controller.allowSnippetAnnotations: snippets are never executed; a route that has one answers 503." -}}
{{- end -}}
{{- if .Values.dhParam -}}{{- $notices = append $notices "dhParam has no effect: no suite uses it." -}}{{- end -}}
{{- concat $notices (include "handfast.healthChecks" . | fromJson).notices | toJson -}}
{{- end -}}

{{- define "handfast.readinessByHealth" -}}
{{- if eq (dig "httpGet" "path" "" (default dict .Values.controller.readinessProbe)) "/healthz" -}}true{{- end -}}
{{- end -}}

{{- define "handfast.foreignLifecycle" -}}
{{- if has "/wait-shutdown" (dig "preStop" "exec" "command" list (default dict .Values.controller.lifecycle)) -}}true{{- end -}}
{{- end -}}

{{/* Whether Ingresses of class nginx are served: by its name, or because its controller is taken for ours. */}}
{{- define "handfast.servesNginx" -}}
{{- $class := .Values.controller.ingressClassResource -}}
{{- $adopted := get (include "handfast.args" . | fromYaml) "adopt-class" | toString | splitList "," -}}
{{- if or (eq $class.name "nginx") (eq $class.controllerValue "k8s.io/ingress-nginx") (has "nginx" $adopted) -}}true{{- end -}}
{{- end -}}

{{/* Whether the values have something that only those of ingress-nginx have. */}}
{{- define "handfast.ofIngressNginx" -}}
{{- $controller := .Values.controller -}}
{{- $found := or (include "handfast.foreignImage" .) (include "handfast.readinessByHealth" .) (include "handfast.foreignLifecycle" .) $controller.config .Values.dhParam -}}
{{- range $key := list "allowSnippetAnnotations" "ingressClassByName" -}}{{- if hasKey $controller $key -}}{{- $found = true -}}{{- end -}}{{- end -}}
{{- range $key := list "defaultBackend" "tcp" "udp" "podSecurityPolicy" -}}{{- if hasKey $.Values $key -}}{{- $found = true -}}{{- end -}}{{- end -}}
{{- $foreign := concat (include "handfast.flags.meaningless" . | fromYamlArray) (keys (include "handfast.translations" . | fromYaml).args) -}}
{{- range $name, $value := $controller.extraArgs -}}{{- if has $name $foreign -}}{{- $found = true -}}{{- end -}}{{- end -}}
{{- range $path, $default := include "handfast.ignored" . | fromYaml -}}
{{- $value := $.Values -}}
{{- range splitList "." $path -}}{{- $value = get (ternary $value dict (kindIs "map" $value)) . -}}{{- end -}}
{{- if or $value (kindIs "bool" $value) -}}{{- $found = true -}}{{- end -}}
{{- end -}}
{{- if $found -}}true{{- end -}}
{{- end -}}
