"""Audiences and segmentation for a multi-tenant CRM: a gRPC service on MongoDB."""
