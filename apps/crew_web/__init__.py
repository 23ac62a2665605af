"""The crew's page: who is who, the live cabin map, commands and their delivery."""
