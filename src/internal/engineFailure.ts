import { EngineUnavailable } from "../Errors.js"

/** @internal */
export const installCommand = "npm install node-llama-cpp"

/** @internal */
export interface EngineFailure {
  readonly reason: "engine"
  readonly message: string
}

/** @internal */
export const engineFailure = (reason: string, install = installCommand): EngineFailure => ({
  reason: "engine",
  message: `${reason}; install it with \`${install}\``
})

/**
 * The typed error of an attempt that failed with the reason `engine`.
 *
 * @internal
 */
export const engineUnavailable = (failure: { readonly message: string }): EngineUnavailable => {
  const match = /^(.*); install it with `([^`]+)`$/s.exec(failure.message)
  return new EngineUnavailable({ reason: match?.[1] ?? failure.message, install: match?.[2] ?? installCommand })
}
