{{/* Name of the chart in labels and names. */}}
{{- define "ferrum.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of all objects. Cut so that a suffix such as -controller fits. */}}
{{- define "ferrum.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- /* A Service's name has no dots; a release's may. */ -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/*
Name of a role for other namespaces than the release's, or for all: there is one of
them for each release of the cluster. No name of a namespace has a colon.
*/}}
{{- define "ferrum.roleAbroad" -}}
{{- printf "%s:%s-controller" .Release.Namespace (include "ferrum.fullname" .) -}}
{{- end -}}

{{/* Name of the Lease of the status writer. */}}
{{- define "ferrum.lease" -}}
{{- printf "%s-status-writer" (include "ferrum.fullname" .) -}}
{{- end -}}

{{/* Labels that never change: selectors are immutable. */}}
{{- define "ferrum.selector" -}}
app.kubernetes.io/name: {{ include "ferrum.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of the Pod of `helm test`. */}}
{{- define "ferrum.testSelector" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "ferrum.name" .) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "ferrum.labels" -}}
{{ include "ferrum.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "ferrum.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ferrum.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ferrum.image" -}}
{{- $i := .Values.image -}}
{{- $name := ternary (printf "%s/%s" $i.registry $i.repository) $i.repository (ne $i.registry "") -}}
{{- if $i.digest -}}
{{- printf "%s@%s" $name $i.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $i.tag) -}}
{{- end -}}
{{- end -}}

{{/*
The number of replicas that a HorizontalPodAutoscaler finds; empty when there is no
Deployment yet, or none can be looked up, as by `helm template`.

A number that Helm has set and does not say any more is gone with it, and the API
server makes it 1. So Helm goes on saying what there is, except where it applies on
the server and somebody has scaled: then the number is that one's too and stays, and
to say it could only conflict.
*/}}
{{- define "ferrum.liveReplicas" -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "ferrum.fullname" .) -}}
{{- $scaled := false -}}
{{- $applied := false -}}
{{- range dig "metadata" "managedFields" list $live -}}
{{- $scaled = or $scaled (eq (dig "subresource" "" .) "scale") -}}
{{- $applied = or $applied (and (eq .manager "helm") (eq .operation "Apply")) -}}
{{- end -}}
{{- if not (and $scaled $applied) -}}
{{- dig "spec" "replicas" "" $live -}}
{{- end -}}
{{- end -}}

{{/* The configuration file, as an object. */}}
{{- define "ferrum.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- if .Values.watchNamespaces -}}
{{- $_ := set $c "watchNamespaces" .Values.watchNamespaces -}}
{{- end -}}
{{- if .Values.adminToken.secretName -}}
{{- $admin := default dict $c.admin | deepCopy -}}
{{- $_ := set $admin "tokenFile" (printf "/etc/ferrum/admin/%s" .Values.adminToken.key) -}}
{{- $_ := set $c "admin" $admin -}}
{{- end -}}
{{- if .Values.redisPassword.secretName -}}
{{- $redis := default dict $c.redis | deepCopy -}}
{{- $_ := set $redis "passwordFile" (printf "/etc/ferrum/redis/%s" .Values.redisPassword.key) -}}
{{- $_ := set $c "redis" $redis -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}

{{/* The port of a listen address such as ":8080" or "[::]:8080". */}}
{{- define "ferrum.port" -}}
{{- regexReplaceAll "^.*:" . "" -}}
{{- end -}}

{{- define "ferrum.httpPort" -}}
{{- include "ferrum.port" (dig "http" "address" ":8080" .Values.config) -}}
{{- end -}}

{{- define "ferrum.adminPort" -}}
{{- include "ferrum.port" (dig "admin" "address" ":9090" .Values.config) -}}
{{- end -}}

{{- define "ferrum.snapshotDirectory" -}}
{{- dig "snapshot" "directory" "" .Values.config -}}
{{- end -}}

{{/* Seconds, rounded up, of a duration as Go writes it: 1m30s, 1.5h, 300ms. */}}
{{- define "ferrum.seconds" -}}
{{- $sum := 0.0 -}}
{{- $unit := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "ns" 0.000000001 -}}
{{- range regexFindAll "[0-9.]+(ns|us|µs|ms|s|m|h)" . -1 -}}
{{- $sum = addf $sum (mulf (float64 (regexFind "^[0-9.]+" .)) (get $unit (regexFind "[a-zµ]+$" .))) -}}
{{- end -}}
{{- ceil $sum -}}
{{- end -}}

{{/*
What a Pod may take to end: a preStop hook that sleeps, which comes first and is
counted by the kubelet, then all that the process waits for, and a margin.
*/}}
{{- define "ferrum.gracePeriod" -}}
{{- if ne .Values.terminationGracePeriodSeconds nil -}}
{{- .Values.terminationGracePeriodSeconds -}}
{{- else -}}
{{- $delay := include "ferrum.seconds" (dig "drain" "delay" "5s" .Values.config) -}}
{{- $timeout := include "ferrum.seconds" (dig "drain" "timeout" "30s" .Values.config) -}}
{{- $upgraded := include "ferrum.seconds" (dig "drain" "upgradedTimeout" "60s" .Values.config) -}}
{{- $hook := default dict .Values.lifecycle.preStop -}}
{{- $sleep := default 0 (default dict $hook.sleep).seconds -}}
{{- add (int $sleep) (int $delay) (max (int $timeout) (int $upgraded)) 10 -}}
{{- end -}}
{{- end -}}

{{/* The alerts that are not disabled, with the labels of this release. */}}
{{- define "ferrum.alerts" -}}
{{- $disabled := .Values.prometheusRule.disabled -}}
{{- $groups := list -}}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- if not (has .alert $disabled) -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (dict "name" .name "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- toYaml (concat $groups .Values.prometheusRule.extraGroups) -}}
{{- end -}}

{{/* The endpoint of both kinds of monitor. */}}
{{- define "ferrum.monitorEndpoint" -}}
{{- $m := .monitor -}}
port: admin
path: /metrics
# The label "namespace" of a metric is that of the route, not that of the Pod.
honorLabels: true
interval: {{ $m.interval }}
scrapeTimeout: {{ $m.scrapeTimeout }}
{{- with .root.Values.adminToken }}
{{- if .secretName }}
authorization:
  type: Bearer
  credentials: {name: {{ .secretName }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- with $m.relabelings }}
relabelings:
{{ toYaml . }}
{{- end }}
{{- with $m.metricRelabelings }}
metricRelabelings:
{{ toYaml . }}
{{- end }}
{{- end -}}
