declare module "openapi-explorer"
