/** The OpenAPI viewer: a chunk of its own, loaded when the API page is opened. */
import "openapi-explorer"
import { address, credentials, href } from "./api"
import { applyInlineStyles } from "./inlineStyles"
import inside from "./viewer.css?inline"

/** As in style.css: the viewer computes further colours from these. */
const themes = {
  light: { background: "#ffffff", side: "#f5f6fa", hover: "#e2e5ee", text: "#171a26", accent: "#4338ca" },
  dark: { background: "#171a24", side: "#12151d", hover: "#282d3c", text: "#e9ebf3", accent: "#a5a8ff" }
} as const

interface Tried {
  readonly request: { headers: Headers; url: string }
}

const make = (): HTMLElement => {
  const viewer = document.createElement("openapi-explorer")
  const dark = matchMedia("(prefers-color-scheme: dark)")
  const paint = () => {
    const { accent, background, hover, side, text } = themes[dark.matches ? "dark" : "light"]
    viewer.setAttribute("bg-color", background)
    viewer.setAttribute("header-bg-color", hover)
    viewer.setAttribute("text-color", text)
    viewer.setAttribute("primary-color", accent)
    viewer.setAttribute("secondary-color", accent)
    viewer.setAttribute("nav-bg-color", side)
    viewer.setAttribute("nav-text-color", text)
    viewer.setAttribute("nav-hover-bg-color", hover)
    viewer.setAttribute("nav-hover-text-color", text)
  }
  paint()
  dark.addEventListener("change", paint)
  viewer.setAttribute("spec-url", new URL(href("/openapi.json"), location.href).href)
  viewer.setAttribute("server-url", address())
  viewer.setAttribute("fetch-credentials", "same-origin")
  viewer.setAttribute("hide-server-selection", "true")
  viewer.setAttribute("default-schema-tab", "body")
  viewer.setAttribute("schema-expand-level", "1")
  viewer.setAttribute("use-path-in-nav-bar", "true")
  // A request is sent with the session of the page.
  viewer.addEventListener("request", (event) => {
    const { request } = (event as CustomEvent<Tried>).detail
    for (const [name, value] of Object.entries(credentials())) request.headers.set(name, value)
  })
  return viewer
}

let viewer: HTMLElement | undefined

/** Shows the viewer in an element; gives what takes it away again. */
export const show = (place: HTMLElement): (() => void) => {
  const shown = viewer ?? make()
  place.append(shown)
  // It takes itself for new whenever it is attached; what it has read holds.
  if (viewer !== undefined) Object.assign(shown, { loading: false })
  if (viewer === undefined && shown.shadowRoot !== null) {
    const sheet = new CSSStyleSheet()
    sheet.replaceSync(inside)
    applyInlineStyles(shown.shadowRoot, sheet)
  }
  viewer = shown
  return () => shown.remove()
}
