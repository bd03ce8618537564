// What is wrong with what stands on the page now, as sentences: read by looks.py.
() => {
  const faults = new Set();
  const seen = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const name = (node) => {
    const told = node.id ? `#${node.id}` : `${node.tagName.toLowerCase()}.${[...node.classList].join('.')}`;
    const words = (node.innerText || node.ariaLabel || '').trim().replace(/\s+/g, ' ');
    return `${told} "${words.slice(0, 40)}"`;
  };

  // Nothing may reach out of the window sideways.
  if (document.documentElement.scrollWidth > innerWidth) {
    faults.add(`the page is ${document.documentElement.scrollWidth} px wide in a window of ${innerWidth}`);
  }
  for (const control of document.querySelectorAll('button, select, input:not([type=file]), textarea, a')) {
    const { left, right, width } = control.getBoundingClientRect();
    if (width && seen(control) && (right > innerWidth + 1 || left < -1)) {
      const scrolled = control.closest('[data-scrolls], .bw-scroll, pre, table, [style*="overflow"]');
      if (!scrolled) faults.add(`${name(control)} reaches out of the window`);
    }
  }

  // Labels of boxes: inside their picture, over no other label.
  for (const svg of document.querySelectorAll('.bw-figure svg')) {
    if (!svg.getBoundingClientRect().width || !seen(svg)) continue;
    const { left, top, right, bottom } = svg.getBoundingClientRect();
    const rects = [...svg.querySelectorAll('.bw-label')].filter(seen).map((one) => one.getBoundingClientRect());
    rects.forEach((a, i) => {
      if (a.left < left - 2 || a.top < top - 2 || a.right > right + 2 || a.bottom > bottom + 2) faults.add('a label stands outside of its picture');
      for (const b of rects.slice(i + 1)) {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 2 && down > 2) faults.add('two labels of boxes cover each other');
      }
    });
  }

  // Text against what is behind it: WCAG 2.2, 1.4.3 (4.5 to 1; 3 to 1 from 24 px, or from 18.7 px when bold).
  const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((value, i) => value * a + under[i] * (1 - a));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      if (style.backgroundImage !== 'none' || one.closest('svg, .bw-figure, .bw-stage')) return null; // not one colour
      const colour = rgba(style.backgroundColor);
      if (colour[3]) layers.push(colour);
      if (colour[3] === 1) break;
    }
    const page = document.body.classList.contains('dark') ? [0, 0, 0] : [255, 255, 255];
    return layers.reverse().reduce((under, colour) => over(colour, under), page);
  };
  const clipper = (node) => {
    for (let one = node; one && one !== document.body; one = one.parentElement) {
      const style = getComputedStyle(one);
      if (style.textOverflow === 'ellipsis' && style.overflowX !== 'visible') return one;
    }
    return null;
  };
  const pale = new Set(); // one of a kind is enough
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || node.closest('script, style, noscript, option, :disabled, [aria-disabled=true]')) continue;
    const box = node.getBoundingClientRect();
    if (box.width < 3 || box.height < 3 || !seen(node)) continue;
    if (box.bottom < 0 || box.top > innerHeight) continue;
    const around = document.createRange();
    around.selectNodeContents(texts.currentNode);
    const places = [...around.getClientRects()];
    if (places.some((place) => place.right > innerWidth + 1) && !clipper(node)) faults.add(`text reaches out of the window: ${name(node)}`);
    const cut = clipper(node);
    // A chip of gradio's can be given no title; what it names stands in a card of its own.
    if (cut && !cut.closest('.token') && cut.scrollWidth > cut.clientWidth + 1 && !cut.closest('[title]') && !cut.querySelector('[title]')) {
      faults.add(`text is cut off and nothing tells the whole of it: ${name(cut)}`);
    }
    const background = behind(node);
    if (!background) continue;
    const style = getComputedStyle(node);
    const [light, dark] = [luminance(over(rgba(style.color), background)), luminance(background)].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.7 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5) - 0.05) {
      const kind = `${node.parentElement.className}/${node.tagName}.${node.className} ${style.color}`;
      if (!pale.has(kind)) faults.add(`contrast of ${contrast.toFixed(1)} to 1: ${name(node)} in ${name(node.parentElement)}`);
      pale.add(kind);
    }
  }
  return [...faults];
}
