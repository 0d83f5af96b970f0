/**
 * Inline styles of a foreign web component, under a policy that allows none: the build renames its `style` attributes
 * to `data-style` and its `<style>` elements to `<inline-style>`, and this applies both through the CSSOM.
 */

class InlineStyle extends HTMLElement {
  private readonly sheet = new CSSStyleSheet()
  private readonly changes = new MutationObserver(() => this.apply())

  connectedCallback(): void {
    this.hidden = true
    this.changes.observe(this, { characterData: true, childList: true, subtree: true })
    this.apply()
    const root = this.getRootNode()
    if (root instanceof ShadowRoot) root.adoptedStyleSheets.push(this.sheet)
  }
  disconnectedCallback(): void {
    this.changes.disconnect()
  }
  private apply(): void {
    this.sheet.replaceSync(this.textContent ?? "")
  }
}

const applyTo = (element: Element): void => {
  const text = element.getAttribute("data-style")
  if (text !== null && "style" in element) (element as HTMLElement).style.cssText = text
}

const options = { attributes: true, attributeFilter: ["data-style"], childList: true, subtree: true }

/** Applies the styles of a shadow root and of those in it, now and later, and `sheet`. */
export const applyInlineStyles = (root: ShadowRoot, sheet: CSSStyleSheet): void => {
  const added = (node: Node): void => {
    if (!(node instanceof Element)) return
    for (const element of [node, ...node.querySelectorAll("*")]) {
      applyTo(element)
      // Custom elements inside have roots of their own.
      if (element.shadowRoot !== null) watch(element.shadowRoot)
    }
  }
  const watched = new WeakSet<ShadowRoot>()
  const watch = (one: ShadowRoot): void => {
    if (watched.has(one)) return
    watched.add(one)
    for (const child of one.children) added(child)
    new MutationObserver((changes) => {
      for (const { addedNodes, target, type } of changes) {
        if (type === "attributes") applyTo(target as Element)
        else for (const node of addedNodes) added(node)
      }
    }).observe(one, options)
    one.adoptedStyleSheets.push(sheet)
  }
  watch(root)
}

customElements.define("inline-style", InlineStyle)
