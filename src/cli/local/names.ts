/** How models and their address are written. */
import { resolve } from "node:path"

/** The address as people write it. */
export const baseUrl = ({ url }: { readonly url: string }): string => url.replace("//127.0.0.1:", "//localhost:")

/** The supervisor has another working directory: a path of a file is made absolute. */
export const absolute = (model: string): string =>
  /^\.{0,2}\//.test(model) || /\.gguf$/i.test(model)
    ? /^[a-z][a-z+.-]+:/i.test(model)
      ? model
      : resolve(model)
    : model

/** A file is known by the name that it was started under. */
export const nameOf = (model: string): string =>
  absolute(model)
    .replace(/^.*[\\/](?=[^\\/]*\.gguf$)/i, "")
    .replace(/\.gguf$/i, "")
