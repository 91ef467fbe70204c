package manifests

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

// Check says what an API server and the translator would object to in the
// manifests at paths (see Load), in the order of files and lines. The findings
// of the translator are the conditions that are not as the author wants them,
// with the line of the object. What Check cannot see (Services that only the
// cluster has) it takes as missing.
func Check(paths ...string) []Finding {
	files, findings := loadFiles(paths)
	a := assembler{}
	a.addFiles(files)
	findings = append(findings, a.problems...)

	r := translate.Build(a.snapshot)
	judge := func(kind string, n types.NamespacedName, v translate.Verdict) {
		at := a.where[objectWords(kind, n.Namespace, n.Name)]
		for _, c := range v.Conditions {
			if !c.AsWished() {
				at.Message = c.Type + "=" + string(c.Status) + " " + c.Reason + ": " + c.Message
				findings = append(findings, at)
			}
		}
	}
	for n, v := range r.Verdicts.Routes {
		judge("ProxyRoute", n, v.Verdict)
	}
	for n, v := range r.Verdicts.Policies {
		judge("BackendPolicy", n, v)
	}
	for n, v := range r.Verdicts.Classes {
		judge("ProxyClass", types.NamespacedName{Name: n}, v)
	}
	for _, w := range r.Warnings {
		findings = append(findings, Finding{Severity: Warning, Message: w})
	}
	return sorted(findings)
}
