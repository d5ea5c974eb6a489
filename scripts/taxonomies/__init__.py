"""Builds audience_service/domain/targeting/data from public packages."""
