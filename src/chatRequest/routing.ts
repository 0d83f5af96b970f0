/**
 * The names of the routing strategies, as plain data: the command line needs them before any schema is loaded.
 *
 * @internal
 */
export const routingNames = ["random", "fastest", "nearest", "balanced", "least-busy", "warm"] as const
