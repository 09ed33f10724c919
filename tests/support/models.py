import numpy as np, gguf, sys
def make(path, n_embd=64, n_layer=2, n_head=2, n_ff=160, ctx=512, seed=0, quant=None, words=400):
    b=list(range(33,127))+list(range(161,173))+list(range(174,256)); cs=b[:]; n=0
    for i in range(256):
        if i not in b: b.append(i); cs.append(256+n); n+=1
    m=dict(zip(b,map(chr,cs)))
    toks=[m[i] for i in range(256)]
    rng=np.random.default_rng(seed)
    merges=[]
    toks+=["<s>","</s>"]
    types=[1]*256+[3,3]
    w=gguf.GGUFWriter(path,"llama")
    w.add_name("random"); w.add_context_length(ctx); w.add_embedding_length(n_embd); w.add_block_count(n_layer); w.add_feed_forward_length(n_ff); w.add_head_count(n_head); w.add_head_count_kv(n_head); w.add_layer_norm_rms_eps(1e-5); w.add_rope_dimension_count(n_embd//n_head); w.add_vocab_size(len(toks)); w.add_file_type(0)
    w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("default"); w.add_token_list(toks); w.add_token_types(types); w.add_token_merges(merges or ["a b"]) ; w.add_bos_token_id(256); w.add_eos_token_id(257); w.add_add_bos_token(True)
    w.add_chat_template("{% for m in messages %}[{{m.role}}] {{m.content}}\n{% endfor %}[assistant] ")
    def t(name,*s,scale=1.0):
        a=(rng.standard_normal(s)*scale).astype(np.float32)
        if quant is not None and len(s)==2: w.add_tensor(name,gguf.quantize(a,quant),raw_dtype=quant)
        else: w.add_tensor(name,a)
    t("token_embd.weight",len(toks),n_embd)
    for i in range(n_layer):
        p=f"blk.{i}."
        for nm in("attn_q","attn_k","attn_v","attn_output"): t(p+nm+".weight",n_embd,n_embd,scale=n_embd**-.5)
        t(p+"ffn_gate.weight",n_ff,n_embd,scale=n_embd**-.5);t(p+"ffn_up.weight",n_ff,n_embd,scale=n_embd**-.5);t(p+"ffn_down.weight",n_embd,n_ff,scale=n_ff**-.5)
        w.add_tensor(p+"attn_norm.weight",np.ones(n_embd,np.float32)); w.add_tensor(p+"ffn_norm.weight",np.ones(n_embd,np.float32))
    w.add_tensor("output_norm.weight",np.ones(n_embd,np.float32)); t("output.weight",len(toks),n_embd,scale=n_embd**-.5)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
if __name__=="__main__":
    make("/tmp/x/small.gguf")
    make("/tmp/x/b1.gguf",n_embd=2048,n_layer=22,n_head=32,n_ff=5632,ctx=2048,quant=gguf.GGMLQuantizationType.Q4_0) if len(sys.argv)>1 else None
