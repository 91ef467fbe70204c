package kubetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/config/crd"
)

// referenceGrants is the definition in the Gateway API module that a ProxyRoute
// depends on when it refers to another namespace.
const referenceGrants = "config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml"

// readCRDs returns new objects on every call: installing them changes them.
func readCRDs() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	paths, err := fs.Glob(crd.FS, "bases/*.yaml")
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, errors.New("config/crd/bases holds no definitions; run `make generate`")
	}
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, path := range paths {
		data, err := crd.FS.ReadFile(path)
		if err != nil {
			return nil, err
		}
		crds, err = appendCRD(crds, path, data)
		if err != nil {
			return nil, err
		}
	}
	gateway, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		return nil, fmt.Errorf("find the Gateway API module: %w", err)
	}
	path := filepath.Join(strings.TrimSpace(string(gateway)), referenceGrants)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return appendCRD(crds, path, data)
}

func appendCRD(to []*apiextensionsv1.CustomResourceDefinition, path string, data []byte) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	def := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(data, def); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return append(to, def), nil
}
