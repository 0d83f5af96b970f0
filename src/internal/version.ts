/**
 * The version of this package, as in package.json.
 *
 * @internal
 */
export const version = "0.1.0"
