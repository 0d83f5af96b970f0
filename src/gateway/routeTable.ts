/** The table of routes, which `routes` and `ownRoutes` fill. */
import type { GatewayContext } from "./GatewayContext.js"
import type * as BodyFields from "./http/body.js"
import type { RequestContext } from "./http/RequestContext.js"
import type * as OpenApi from "./openapi/document.js"

/**
 * - `rest`: the part of the path after the endpoint's prefix
 * - `body`: the fields of the body; empty if none is read
 */
export type Handler = (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  rest: string
) => Promise<void> | void

export interface Route extends OpenApi.Endpoint {
  readonly handler: Handler
  readonly readsBody: boolean
  /** Where it needs administrator rights, a key that may change models has them. */
  readonly managesModels?: boolean
  /** It stays open without any work: it does not count against the limits of its key. */
  readonly holdsNoPlace?: boolean
  /** Counts against the limits of its key. */
  readonly isRateLimited: boolean
  readonly name: string
}

/** Every route, by path and then by method. */
export const routes = new Map<string, Map<string, Route>>()

/**
 * A path that ends in `/` is followed by a name, and one that continues after it contains `{id}`. HEAD is answered like
 * GET, without the body.
 */
export const addRoute = (
  method: string,
  path: string,
  about: string,
  handler: Handler,
  options: Partial<Omit<Route, "about" | "handler" | "name" | "isRateLimited">> = {}
): Route => {
  let known = routes.get(path)
  if (known === undefined) {
    known = new Map()
    routes.set(path, known)
  }
  const { isPublic = false } = options
  const route = {
    readsBody: options.body !== undefined,
    admin: false,
    ...options,
    about,
    handler,
    isPublic,
    isRateLimited: !isPublic && options.holdsNoPlace !== true,
    name: path
  }
  known.set(method, route)
  return route
}
