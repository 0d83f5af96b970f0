import { EngineUnavailable } from "../Errors.js"
import { installCommand } from "./engineFailure.js"

/**
 * The typed error of an attempt that failed with the reason `engine`.
 *
 * @internal
 */
export const engineUnavailable = (failure: {
  readonly message: string
  readonly install?: { readonly missing: string; readonly command: string }
}): EngineUnavailable =>
  new EngineUnavailable({
    reason: failure.install?.missing ?? failure.message,
    install: failure.install?.command ?? installCommand
  })
