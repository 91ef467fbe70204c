{{/* The Pod of both kinds of workload. */}}
{{- define "ferrum.podTemplate" -}}
metadata:
  labels:
    {{- /* Not the chart's version: a new chart alone is no reason to replace Pods. */}}
    {{- include "ferrum.selector" . | nindent 4 }}
    {{- with .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The process reads its configuration once: a change has to restart it.
    checksum/config: {{ include "ferrum.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "ferrum.serviceAccount" . }}
  terminationGracePeriodSeconds: {{ include "ferrum.gracePeriod" . }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if .Values.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- with .Values.dnsPolicy | default (ternary "ClusterFirstWithHostNet" "" .Values.hostNetwork) }}
  dnsPolicy: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and .Values.topologySpreadConstraints (eq .Values.kind "Deployment") }}
  topologySpreadConstraints:
    {{- range .Values.topologySpreadConstraints }}
    {{- $selector := dict "matchLabels" (include "ferrum.selector" $ | fromYaml) }}
    - {{ merge (deepCopy .) (dict "labelSelector" $selector) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
  - name: ferrum
    {{- include "ferrum.container" . | nindent 4 }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  volumes:
  - name: config
    configMap:
      name: {{ include "ferrum.fullname" . }}
  {{- if include "ferrum.snapshotDirectory" . }}
  - name: snapshot
    {{- toYaml .Values.snapshotVolume | nindent 4 }}
  {{- end }}
  {{- with .Values.adminToken.secretName }}
  - name: admin-token
    secret:
      secretName: {{ . }}
  {{- end }}
  {{- with .Values.redisPassword.secretName }}
  - name: redis-password
    secret:
      secretName: {{ . }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "ferrum.container" -}}
image: {{ include "ferrum.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
- run
- --config=/etc/ferrum/config/config.yaml
{{- if not (dig "topology" dict .Values.config) }}
- --topology-zone=$(ZONE)
- --topology-node=$(NODE_NAME)
{{- end }}
{{- if and (or .Values.service.enabled .Values.adminService.enabled) (or .Values.rbac.create (not .Values.watchNamespaces)) (not (dig "replicas" dict .Values.config)) }}
- --replicas-service=$(POD_NAMESPACE)/{{ include "ferrum.fullname" . }}{{ ternary "" "-admin" .Values.service.enabled }}
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
env:
- name: NODE_NAME # for topology hints
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: ZONE # empty before Kubernetes 1.35, which gives the label to Pods
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['topology.kubernetes.io/zone']
- name: POD_NAMESPACE # where the status writer's lease is
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: LEASE_NAME
  value: {{ include "ferrum.lease" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
{{ toYaml . }}
{{- end }}
ports:
- name: http
  containerPort: {{ include "ferrum.httpPort" . }}
  {{- with .Values.hostPort }}
  {{- if and $.Values.hostNetwork (ne (toString .) (include "ferrum.httpPort" $)) }}
  {{- fail (printf "hostPort %v is not the port %s of config.http.address: with hostNetwork there is only the one" . (include "ferrum.httpPort" $)) }}
  {{- end }}
  hostPort: {{ . }}
  {{- end }}
- name: admin
  containerPort: {{ include "ferrum.adminPort" . }}
{{- with .Values.startupProbe }}
startupProbe:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.readinessProbe }}
readinessProbe:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.livenessProbe }}
livenessProbe:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
- name: config
  mountPath: /etc/ferrum/config
  readOnly: true
{{- with include "ferrum.snapshotDirectory" . }}
- name: snapshot
  mountPath: {{ . }}
{{- end }}
{{- if .Values.adminToken.secretName }}
- name: admin-token
  mountPath: /etc/ferrum/admin
  readOnly: true
{{- end }}
{{- if .Values.redisPassword.secretName }}
- name: redis-password
  mountPath: /etc/ferrum/redis
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
