package manifests

import (
	"context"
	"fmt"
	"io/fs"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	structuralcel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	crvalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1validation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/ferrum-proxy/ferrum-proxy/config/crd"
)

// customKind validates the objects of one of our kinds as the API server does.
type customKind struct {
	gvk        schema.GroupVersionKind
	namespaced bool
	hasStatus  bool // the status subresource: a status in a manifest is dropped
	structural *structuralschema.Structural
	schema     crvalidation.SchemaValidator
	cel        *structuralcel.Validator
}

// customKinds reads the CustomResourceDefinitions, once.
var customKinds = sync.OnceValues(func() (map[schema.GroupVersionKind]*customKind, error) {
	kinds := make(map[schema.GroupVersionKind]*customKind)
	files, err := fs.Glob(crd.FS, "bases/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := crd.FS.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(content, &definition); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for i := range definition.Spec.Versions {
			k, err := newCustomKind(&definition.Spec, &definition.Spec.Versions[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if definition.Spec.Versions[i].Served {
				kinds[k.gvk] = k
			}
		}
	}
	return kinds, nil
})

func newCustomKind(s *apiextensionsv1.CustomResourceDefinitionSpec, v *apiextensionsv1.CustomResourceDefinitionVersion) (*customKind, error) {
	k := &customKind{
		gvk:        schema.GroupVersionKind{Group: s.Group, Version: v.Name, Kind: s.Names.Kind},
		namespaced: s.Scope == apiextensionsv1.NamespaceScoped,
		hasStatus:  v.Subresources != nil && v.Subresources.Status != nil,
	}
	var internal apiextensions.CustomResourceValidation
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema, &internal, nil); err != nil {
		return nil, err
	}
	var err error
	if k.structural, err = structuralschema.NewStructural(internal.OpenAPIV3Schema); err != nil {
		return nil, err
	}
	if err := defaulting.PruneDefaults(k.structural); err != nil {
		return nil, err
	}
	if k.schema, _, err = crvalidation.NewSchemaValidator(internal.OpenAPIV3Schema); err != nil {
		return nil, err
	}
	k.cel = structuralcel.NewValidator(k.structural, true, celconfig.PerCallLimit)
	return k, nil
}

// admit does to an object what the API server does on creation: it prunes and
// reports unknown fields, applies the defaults, drops the status and validates.
// It changes the object.
func (k *customKind) admit(object map[string]any) []*field.Error {
	var errs []*field.Error
	for _, path := range k.prune(object, &errs) {
		errs = append(errs, unknownField(path))
	}
	if len(errs) > 0 {
		return errs
	}
	defaulting.Default(object, k.structural)
	if k.hasStatus {
		delete(object, "status")
	}
	return k.validate(object)
}

// prune removes unknown fields and nulls, returning the paths of the former.
func (k *customKind) prune(object map[string]any, errs *[]*field.Error) (unknown []string) {
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(object, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		*errs = append(*errs, field.Invalid(field.NewPath("metadata"), field.OmitValueType{}, err.Error()))
		return nil
	}
	kind, apiVersion := object["kind"], object["apiVersion"]
	unknown = append(unknown, pruning.PruneWithOptions(object, k.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, k.structural)
	coerceErr, more := objectmeta.CoerceWithOptions(nil, object, k.structural, false, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	unknown = append(unknown, more...)
	if coerceErr != nil {
		*errs = append(*errs, coerceErr)
		return unknown
	}
	object["kind"], object["apiVersion"] = kind, apiVersion
	if found {
		if err := objectmeta.SetObjectMeta(object, meta); err != nil {
			*errs = append(*errs, field.Invalid(field.NewPath("metadata"), field.OmitValueType{}, err.Error()))
		}
	}
	return unknown
}

// validate runs the schema, then the CEL rules: these expect the types to be
// right, so that after some errors of the schema they are not run.
func (k *customKind) validate(object map[string]any) []*field.Error {
	ctx := context.Background()
	meta, _, err := objectmeta.GetObjectMeta(object, false)
	if err != nil {
		return []*field.Error{field.Invalid(field.NewPath("metadata"), field.OmitValueType{}, err.Error())}
	}
	if meta == nil {
		meta = &metav1.ObjectMeta{}
	}
	errs := validateMeta(meta, k.namespaced, metav1validation.NameIsDNSSubdomain)
	errs = append(errs, crvalidation.ValidateCustomResource(nil, object, k.schema)...)
	errs = append(errs, objectmeta.Validate(ctx, nil, object, k.structural, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.structural, object)...)
	if blocksRules(errs) {
		return errs
	}
	ruleErrs, _ := k.cel.Validate(ctx, nil, k.structural, object, nil, celconfig.RuntimeCELCostBudget)
	return append(errs, ruleErrs...)
}

// blocksRules says that an error is of a type after which rules are not run.
func blocksRules(errs field.ErrorList) bool {
	for _, e := range errs {
		switch e.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
	}
	return false
}

// validateMeta checks names, labels, annotations and the like.
func validateMeta(meta *metav1.ObjectMeta, namespaced bool, name metav1validation.ValidateNameFunc) field.ErrorList {
	path := field.NewPath("metadata")
	if meta.Name == "" && meta.GenerateName != "" {
		return field.ErrorList{field.Required(path.Child("name"), "without an API server generateName generates nothing")}
	}
	return metav1validation.ValidateObjectMeta(meta, namespaced, name, path)
}

// unknownField says what the API server says on strict validation.
func unknownField(path string) *field.Error {
	return &field.Error{Type: unknownFieldType, Field: path}
}

const unknownFieldType field.ErrorType = "unknown field"

// message words an error as the API server does.
func message(e *field.Error) string {
	if e.Type == unknownFieldType {
		return fmt.Sprintf("unknown field %q", e.Field)
	}
	return e.Error()
}
